"""Promise 8: nothing is sent home. onnxruntime with its telemetry on keeps an id and a database in the home folder."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ServerFactory


def test_the_engine_leaves_no_telemetry_behind(start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    elsewhere = {"HOME": str(home), "XDG_CACHE_HOME": "", "XDG_DATA_HOME": "", "ORT_DISABLE_TELEMETRY": ""}
    server = start_server(tiny_bundle, env=elsewhere)
    assert server.client.post("/embed", json={"inputs": "river"}).status_code == 200
    assert server.stop() == 0
    assert not list(home.rglob("*"))
