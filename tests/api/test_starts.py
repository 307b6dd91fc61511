"""How a server starts, and how it refuses to: in one line that says what to do, and with nothing left behind."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx
import pytest

from strata.app.callers.tiers_file import TiersError
from strata.app.cli import main
from strata.app.connections.listening import beyond_this_machine, bind
from strata.app.engine.devices import torch_has_cuda
from strata.app.fitting import check_fits
from strata.app.settings import Settings, SettingsError
from strata.app.tiers import Tiers
from strata.model_store.bundle.manifest import MANIFEST_NAME
from tests.cluster import LINKS
from tests.conftest import SMALL, STRATA, RunningServer, ServerFactory, after, open_files
from tests.endure.conftest import until
from tests.model_store.folders import edit_json
from tests.warm import Forked


def none_left(marker: str) -> bool:
    return not engine_processes(marker)


def engine_processes(marker: str) -> list[int]:
    """Engine hosts whose environment holds a marker."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"engine.host" in (folder / "cmdline").read_bytes()
                and marker.encode() in (folder / "environ").read_bytes()
            ):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def refused(*flags: str, **env: str) -> str:
    """The line of a start that is refused; no engine process may be left."""
    marker = f"MARKER={os.urandom(8).hex()}"
    environment = {**os.environ, **env, "MARKER": marker.partition("=")[2]}
    with TemporaryFile("w+") as told:
        status = Forked(["serve", *SMALL, *flags], told.fileno(), environment).wait(timeout=60)
        told.seek(0)
        line = told.read()
    assert status == 2, line
    assert line.count("\n") == 1, line
    assert engine_processes(marker) == []
    return line


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--port", "18080", "--operations-port", "18080"), "--operations-port: 18080 is --port itself; give another"),
        (("--host", "203.0.113.7", "--insecure"), "--host: 203.0.113.7 is no address of this machine"),
        (
            ("--host", "no.such.host.invalid", "--insecure"),
            "--host: 'no.such.host.invalid' is no address of this machine",
        ),
        (("--host", "127.0.0.1:80"), "--host: must be a name or an address by itself"),
        (("--host", "http://127.0.0.1"), "--host: must be a name or an address by itself"),
        (("--host", ""), "--host: must be a name or an address by itself"),
        (("--host", "0.0.0.0", "--port", "0"), "give --api-key, --tiers a file with keys, or --insecure"),
        (("--host", "[::]", "--port", "0"), "--insecure"),
        (("--served-model-name", "two\nlines"), "--served-model-name: must be one line"),
        (("--served-model-name", "tab\there"), "--served-model-name: must be one line"),
        (("--served-model-name", " "), "--served-model-name: must be one line"),
        (("--client-seconds", "inf"), "--client-seconds: must be a number above 0. Given: inf"),
        (("--drain-seconds", "inf"), "--drain-seconds: must be a number above 0. Given: inf"),
        (("--root-path", "strata"), "--root-path: must be a path that begins with a slash"),
        (("--root-path", "/a/../b"), "without the steps . and .."),
        (("--root-path", "/a/."), "without the steps . and .."),
        (("--root-path", "/a%20b"), "of letters, digits and . _ ~ - @ : +"),
        (("--host", "255.255.255.255", "--insecure"), "--host: 255.255.255.255 is an address of many machines"),
        (("--host", "127.255.255.255", "--insecure"), "is an address of many machines"),
        (("--host", "224.0.0.1", "--insecure"), "is an address of many machines"),
        (("--host", "ff02::1", "--insecure"), "is an address of many machines"),
        (("--cors-origin", "example.org"), "--cors-origin: must be * or origins"),
        (("--api-key", "secret key"), "--api-key: must be printable ASCII"),
        (("--api-key", "k", "--tiers", "t.toml"), "--api-key and --tiers are both given"),
        (("--tiers", "/nowhere.toml", "--port", "0"), "--tiers /nowhere.toml: No such file"),
        (("--model", "nowhere", "--port", "0"), "--model: no model 'nowhere'"),
        (("--uds", "/nowhere/strata.sock"), "--uds: /nowhere/strata.sock: No such file"),
        (("--uds", "/dev/null"), "is no socket; give another path"),
        (("--uds", "/tmp/" + "x" * 120), "too long"),
        (
            ("--dtype", "bfloat16", "--port", "0"),
            "--dtype: bfloat16 is not available on cpu (onnxruntime: float32",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value)[:40].replace("\n", "|"),
)
def test_what_cannot_be_is_told_in_a_line_and_leaves_no_process(flags: tuple[str, ...], told: str) -> None:
    line = refused(*flags)
    assert told in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("options", "tiers", "told"),
    [
        ({"task": "sorting"}, "", "--task: must be one of similarity"),
        ({"default_prompt_name": "title"}, "", "--default-prompt-name: must be one of query, passage"),
        ({}, "min_quality = 95", "`min_quality` 95 of tier `a` is out of reach at 32 dims"),
        ({}, "min_quality = 95", "it is a share: 0.95 is 95 %"),
        ({}, "min_layers = 5", "`min_layers` of tier `a` must be between 1 and 4"),
        ({}, "exits = [3]", 'must be "shared" or among 1, 2, 4. Given: 3'),
        ({}, 'task = "serach"', 'tier "a": task: must be one of similarity'),
        # Of int8 the made-up figures say nothing.
        ({"dtype": "int8"}, "min_quality = 0.5", "the quality of `tiny` at 32 dims was not measured"),
    ],
)
def test_what_the_model_cannot_do_is_known_from_its_manifest(
    tiny_bundle: Path, tmp_path: Path, options: dict[str, Any], tiers: str, told: str
) -> None:
    file = tmp_path / "tiers.toml"
    file.write_text(f'[[tier]]\nname = "a"\n{tiers}\n')
    settings = Settings(tiers=file, **options)
    with pytest.raises((SettingsError, TiersError), match=re.escape(told)):
        check_fits(settings, Tiers(settings), tiny_bundle)


def test_what_the_model_cannot_do_is_told_before_anything_listens(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    edit_json(copy / MANIFEST_NAME, prompts={}, quality=None)
    asked = ("--model", str(copy), "--port", "0")
    assert refused(*asked, "--default-prompt-name", "query").startswith("strata serve: --default-prompt-name: ")
    assert "--task: cannot be named: `tiny` was not measured" in refused(*asked, "--task", "similarity")
    tiers = tmp_path / "tiers.toml"
    tiers.write_text('[[tier]]\nname = "a"\nmin_layers = 9\n')
    assert f'--tiers {tiers}: tier "a": min_layers: ' in refused(*asked, "--tiers", str(tiers))
    (copy / MANIFEST_NAME).write_text("{")
    assert f"--model: {copy / MANIFEST_NAME}: cannot be read" in refused(*asked)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda file: file.unlink(), "missing"),
        (lambda file: os.truncate(file, 1000), "1000 bytes where the manifest says"),
        (lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    ],
    ids=["missing", "cut", "pointer"],
)
def test_a_bundle_that_is_not_whole_is_told_before_anything_listens(
    tiny_bundle: Path, tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    for name in ("tokenizer.json", "model.safetensors", "onnx/block_float32.onnx"):
        kept = (copy / name).read_bytes()
        spoil(copy / name)
        with pytest.raises(SettingsError, match=rf"--model: {re.escape(str(copy / name))}: .*{told}"):
            check_fits(Settings(), Tiers(Settings()), copy)
        (copy / name).write_bytes(kept)
    spoil(copy / "model.safetensors")
    assert f"--model: {copy / 'model.safetensors'}: " in refused("--model", str(copy), "--port", "0")


def test_a_tiers_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "tiers.toml"
    os.mkfifo(pipe)
    assert f"--tiers {pipe}: is no regular file" in refused("--port", "0", "--tiers", str(pipe))


@pytest.mark.skipif(torch_has_cuda(), reason="this torch has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:99"])
def test_a_gpu_that_torch_was_not_built_for_is_refused_before_anything_starts(device: str) -> None:
    line = refused("--device", device, "--backend", "torch", "--port", "0")
    assert f"--device: {device} needs CUDA, and the torch that is installed was built without CUDA" in line


def test_a_second_start_on_the_port_is_refused_and_the_first_serves_on(server: RunningServer) -> None:
    port = str(server.port)
    assert f"--port: {port} is in use on 127.0.0.1" in refused("--port", port)
    assert f"--operations-port: {port} is in use" in refused("--port", "0", "--operations-port", port)
    assert f"STRATA_PORT: {port} is in use" in refused(STRATA_PORT=port)
    assert server.client.get("/ready").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_in_the_first_moments_leaves_no_process(number: signal.Signals) -> None:
    marker = os.urandom(8).hex()
    started = [
        subprocess.Popen(
            [*STRATA, "serve", "--port", "0"],
            env={**os.environ, "MARKER": marker},
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
        )
        for _ in range(2)
    ]
    for process in started:
        time.sleep(0.45)
        process.send_signal(number)
    for process in started:
        assert process.wait(timeout=30) in (0, 130, -number)  # the last: before Python ran any of our code
    until(partial(none_left, marker), 10)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_an_end_in_the_midst_of_an_import_is_no_failure_of_the_import(number: signal.Signals, status: int) -> None:
    program = f"""
import signal
from contextlib import ExitStack
from strata.app import serve
begun = ExitStack()
begun.callback(print, "cleared up", flush=True)
serve._end_at_a_signal(begun)
try:
    signal.raise_signal({number.value})
except BaseException as error:  # as pydantic has it, which makes an error of its own of what it meets
    raise RuntimeError("of an import") from error
"""
    ended = subprocess.run([STRATA[0], "-P", "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "cleared up\n", "")


def test_every_address_takes_ipv4_in_with_and_without_an_operations_port(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    for more in ((), ("--operations-port", "0")):
        server = start_server(tiny_bundle, "--host", "::", "--insecure", *more)
        url = server.await_logged(r"listening url=(http://\[::\]:(\d+))")
        assert httpx.URL(url[1]).port == int(url[2])
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{url[2]}/health").status_code == 200
        if more:
            operations = server.await_logged(r"operations url=http://\[::\]:(\d+)")[1]
            assert httpx.get(f"http://127.0.0.1:{operations}/metrics").status_code == 200


@pytest.mark.parametrize(
    ("host", "beyond"),
    [
        *((host, False) for host in ("127.0.0.1", "127.1", "2130706433", "0x7f000001", "LOCALHOST", "localhost.")),
        *((host, False) for host in ("::1", "0:0::1", "::ffff:127.0.0.1", "127.255.0.9")),
        *((host, True) for host in ("0", "0.0.0.0", "::", "*", "10.1", "::ffff:10.0.0.1", "localhost.example.org")),
    ],
)
def test_this_machine_is_known_however_it_is_written(host: str, beyond: bool) -> None:
    assert beyond_this_machine(Settings(host=host)) is beyond


def test_a_wildcard_is_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::", 0, 0, 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)  # as glibc has it for *
    listeners = bind(Settings(host="*", port=0, insecure=True))
    try:
        assert len({listener.socket.getsockname()[1] for listener in listeners}) == 1
        assert len(listeners) == 1 + socket.has_dualstack_ipv6()
    finally:
        for listener in listeners:
            listener.close()


def test_a_name_with_several_addresses_is_listened_to_at_all_of_them(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    addresses = {str(found[4][0]) for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    server = start_server(tiny_bundle, "--host", "localhost")
    for address in addresses:
        with closing(socket.create_connection((address, server.port), timeout=5)):
            pass


def test_a_unix_socket_is_served_and_taken_away(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "strata.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()  # what a killed server leaves
    server = start_server(tiny_bundle, "--uds", str(path))
    assert path.stat().st_mode & 0o777 == 0o666
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://strata") as client:
        assert len(client.post("/embed", json={"inputs": "river"}).json()[0]) == 32
        assert main(["plan", "--url", f"unix:{path}"]) == 0
        assert main(["top", "--url", f"http://unix:{path}", "--once", "--every", "0.1"]) == 0
        assert main(["plan", "--url", f"unix:{path}.not"]) == 1
        assert capsys.readouterr().err == f"strata plan: unix:{path}.not: No such file or directory\n"
        refused_line = refused("--uds", str(path))
        assert f"--uds: {path} is in use" in refused_line
        assert client.post("/embed", json={"inputs": ""}).status_code == 400
    server.await_logged("client=local")
    assert server.stop() == 0
    assert not path.exists()


def test_a_unix_socket_in_the_place_of_ones_own_is_left_alone(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "strata.sock"
    old = start_server(tiny_bundle, "--uds", str(path))
    path.unlink()
    new = start_server(tiny_bundle, "--uds", str(path))
    assert old.stop() == 0
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://strata") as client:
        assert client.get("/health").status_code == 200
    assert new.stop() == 0
    assert not path.exists()


def test_what_a_service_or_a_link_sets_is_harmless(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, env=LINKS)
    assert server.client.get("/metrics").status_code == 200, "there is one port"
    remarks = re.findall(r"environment note=[\"']?(\w+)", server.text())
    assert remarks == ["STRATA_OPERATIONS_PORT", "STRATA_PORT"]


def test_a_link_does_not_hide_a_flag_or_a_real_value(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, env={"STRATA_SERVICE_HOST": "10.0.0.1", "STRATA_OPERATIONS_PORT": "0"})
    assert server.await_logged("operations url=http://127.0.0.1:")
    assert server.client.get("/metrics").status_code == 404


def test_an_unknown_variable_is_named_with_the_one_it_resembles(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, env={"STRATA_DRAIN_SECOND": "9", "STRATA_COLOUR": "red", "STRATA_KEY": "k"})
    assert "STRATA_DRAIN_SECOND is no option; STRATA_DRAIN_SECONDS is" in server.text()
    assert "STRATA_COLOUR is no option" in server.text()
    assert "STRATA_KEY is" not in server.text()


def test_a_low_limit_of_open_files_is_a_warning(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, first=open_files(300, 300))
    assert re.search(r"warning few_open_files connections=150 .*ulimit -n 65536", server.text())


@pytest.mark.parametrize("files", [16, 63])
def test_too_few_open_files_end_the_start_in_one_line(files: int, tiny_bundle: Path) -> None:
    command = [*after(f"ulimit -n {files}"), "serve", "--model", str(tiny_bundle), "--port", "0", *SMALL]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 2
    told = f"strata serve: the limit of open files leaves room for {files // 2} connections; raise it: ulimit -n 65536"
    assert re.fullmatch(rf"{told}, .*\n", ended.stderr)


def test_a_byte_order_mark_in_the_tiers_file_is_no_character(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    tiers = tmp_path / "tiers.toml"
    tiers.write_text('[[tier]]\nname = "gold"\nanonymous = true\n', encoding="utf-8-sig")
    server = start_server(tiny_bundle, "--tiers", str(tiers))
    assert server.client.get("/info").json()["tiers"][0]["name"] == "gold"


def test_tiers_that_let_nobody_in_are_a_warning(start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path) -> None:
    tiers = tmp_path / "tiers.toml"
    tiers.write_text('[[tier]]\nname = "gold"\n')
    server = start_server(tiny_bundle, "--tiers", str(tiers))
    assert re.search(r"warning nobody_may_call note=.*strata keys new", server.text())


@pytest.mark.parametrize("name", ["模型-1", "modèle", "emb 2"])
def test_a_model_name_in_another_script_survives_the_round_trip(
    start_server: ServerFactory, tiny_bundle: Path, name: str
) -> None:
    client = start_server(tiny_bundle, "--served-model-name", name).client
    answer = client.post("/embed", json={"inputs": "river"}, params={"layers": 2})
    raw: dict[bytes, bytes] = dict(answer.headers.raw)
    space = raw[b"x-strata-space"]
    assert raw[b"x-strata-model"].decode().startswith(f"{name}@")
    for again in (
        client.post("/embed", json={"inputs": "river"}, headers={b"X-Strata-Space": space}),
        client.post("/embed", json={"inputs": "river", "space": space.decode()}),
        client.post("/embed", json={"inputs": "river"}, params={"space": space.decode()}),
    ):
        assert (again.status_code, again.headers["x-strata-layers"]) == (200, "2")
    assert client.get("/v1/models").json()["data"][0]["id"] == name


def test_a_log_that_nobody_reads_stalls_nothing_and_is_counted(tiny_bundle: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [*STRATA, "serve", "--model", str(tiny_bundle), "--port", "0", *SMALL, "--payload-limit", "100000"],
        stderr=writing,
    )
    os.close(writing)
    try:
        found = None
        seen = b""
        while found is None:
            seen += os.read(reading, 4096)
            found = re.search(rb"listening url=(http://\S+)", seen)
        with httpx.Client(base_url=found[1].decode(), timeout=5) as client:
            until(lambda: client.get("/ready").status_code == 200, 30)
            long = "/" + "x" * 150
            for _ in range(600):  # over a hundred kilobytes of lines
                client.get(long)
            began = time.monotonic()
            assert client.get("/health").status_code == 200
            assert time.monotonic() - began < 1
            dropped = re.search(r"^strata_log_lines_dropped_total (\d+)", client.get("/metrics").text, re.M)
            assert dropped
            assert int(dropped[1]) > 0
            os.set_blocking(reading, False)

            def told() -> bool:
                nonlocal seen
                client.get("/nowhere")
                with suppress(BlockingIOError):
                    seen += os.read(reading, 65536)
                return bool(re.search(rb"log_lines_dropped count=[1-9]", seen))

            until(told, 20)
    finally:
        process.kill()
        process.wait()
        os.close(reading)


def test_a_log_whose_reader_is_gone_is_no_reason_to_end(tiny_bundle: Path) -> None:
    process = subprocess.Popen(
        [*STRATA, "serve", "--model", str(tiny_bundle), "--port", "0", *SMALL], stderr=subprocess.PIPE
    )
    assert process.stderr
    try:
        url = re.search(rb"http://\S+", process.stderr.readline())
        assert url
        process.stderr.close()
        with httpx.Client(base_url=url[0].decode()) as client:
            until(lambda: client.get("/ready").status_code == 200, 30)
            assert client.get("/nowhere").status_code == 404
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
