"""Commands in a terminal: closed pipes, full disks, narrow locales and masks, missing packages; never a traceback."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from strata.app.cli import main
from strata.arguments import count, counts, device, exits, positive, positives, server, server_or_socket, share
from strata.model_store.bundle import latency, registry
from tests.model_store.folders import edit_json
from tests.tiny_models import tiny_sentence_model

STRATA = [sys.executable, "-P", "-m", "strata.app.cli"]
PROMPT = "为这个句子生成表示以用于检索相关文章"
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # narrower than any other locale


def environment(store: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONUTF8", "PYTHONUNBUFFERED")}
    return {**kept, "STRATA_MODEL_STORE": str(store), **more}


@pytest.mark.parametrize("words", [("models", "list"), ("--help",), ("profile", "--help")])
def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path: Path, words: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [*STRATA, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141, "as any program that SIGPIPE ends"


def test_a_terminal_that_does_not_know_its_width_is_written_to_all_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [*STRATA, "models", "list"], env=environment(tmp_path, COLUMNS="0"), capture_output=True, text=True, check=True
    )
    assert registry.DEFAULT in done.stdout


class _Other(BaseHTTPRequestHandler):
    """A server that is not ours."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        if kind == "mute":
            self.wfile.write(b"* OK IMAP4rev1 ready\r\n")
            return
        self.send_response(404 if kind == "nowhere" else 200)
        self.end_headers()
        told = {"json": b'{"status": "ok"}', "list": b"[1]", "html": b"<p>", "metrics": b"up 1\n", "bytes": b"\xff\xfe"}
        self.wfile.write(told.get(kind, b'{"error": {"message": "no such thing"}}'))

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("command", ["plan", "top"])
def test_what_is_no_server_of_ours_is_told_in_a_line(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with HTTPServer(("127.0.0.1", 0), _Other) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        for path, told in {
            **dict.fromkeys(("json", "list", "html", "metrics"), "is no Strata server"),
            "nowhere": "HTTP Error 404",
            "mute": "does not speak HTTP",
            "bytes": "can't decode",
        }.items():
            assert main([command, "--url", f"{url}/{path}"]) == 1
            line = capsys.readouterr().err
            assert line.startswith(f"strata {command}: {url}/{path}: ")
            assert (line.count("\n"), told in line) == (1, True), line
        monkeypatch.setenv("STRATA_KEY", "sk two\nlines")
        assert main([command, "--url", url]) == 1
        assert capsys.readouterr().err == (
            f"strata {command}: STRATA_KEY must be printable ASCII without spaces, as it is sent in a header\n"
        )
        monkeypatch.delenv("STRATA_KEY")
        other.shutdown()
    assert main([command, "--url", url]) == 1
    assert capsys.readouterr().err == f"strata {command}: {url}: Connection refused\n"


def test_a_full_disk_is_told_in_a_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*STRATA, "models", "list"], stdout=full, stderr=subprocess.PIPE, env=environment(tmp_path), check=False
        )
    assert (done.returncode, done.stderr) == (1, b"strata: [Errno 28] No space left on device\n")


def test_a_chinese_prompt_is_kept_under_a_narrow_locale_and_mask(tmp_path: Path) -> None:
    source = tiny_sentence_model(tmp_path / "北京", "bert", prompts={"query": PROMPT})
    edit_json(source / "tokenizer_config.json", note="中文")
    store = tmp_path / "new" / "store"
    command = [*STRATA, "models", "add", str(source), "--name", "tiny", "--licence", "MIT"]
    done = subprocess.run(
        command, env=environment(store, **ASCII), umask=0o077, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert PROMPT in (store / "tiny" / "manifest.json").read_text(encoding="utf-8")
    assert PROMPT in (store / "tiny" / "config_sentence_transformers.json").read_text(encoding="utf-8")
    for path in (tmp_path / "new", store, *store.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path
    listed = subprocess.run(
        [*STRATA, "models", "list"], env=environment(store, **ASCII), capture_output=True, text=True, check=False
    )
    assert (listed.returncode, listed.stderr) == (0, "")
    assert r"made from  \u5317\u4eac" in listed.stdout, "what the locale cannot show is escaped"


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is None:
        pytest.skip("root reads everything, and setpriv is not there to change that")
    as_others = [setpriv, "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 and setpriv else []
    (tmp_path / "store" / "closed").mkdir(parents=True)
    (tmp_path / "store" / "closed").chmod(0)
    command = [*as_others, *STRATA, "models", "list"]
    for store, told, warned in (
        ("store", "closed (added)\n  damaged", ""),
        ("store/closed", "strata-gte-small-2d (built in, default)", "The store cannot be looked into: [Errno 13]"),
    ):
        done = subprocess.run(command, env=environment(tmp_path / store), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
        assert "strata-gte-small-2d (built in, default)" in done.stdout
        assert done.stderr.startswith(warned)
        assert "Traceback" not in done.stderr
    (tmp_path / "store" / "closed").chmod(0o700)


def test_a_name_that_would_break_the_line_or_command_the_terminal_is_escaped(tmp_path: Path) -> None:
    name = "two\nlines\x1b[2J"
    (tmp_path / name).mkdir()
    (tmp_path / name / "manifest.json").write_text("{")
    for words in (["list"], ["verify"], ["add", str(tmp_path / name)]):
        done = subprocess.run(
            [*STRATA, "models", *words], env=environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert r"two\nlines\x1b[2J" in done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr
    (tmp_path / name / "manifest.json").unlink()
    done = subprocess.run(
        [*STRATA, "serve", "--model", str(tmp_path / name)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_a_user_without_a_home_has_the_models_that_come_with_strata(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "STRATA_MODEL_STORE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert registry.find(registry.DEFAULT).name == registry.DEFAULT
    assert main(["models", "list"]) == 0
    shown = capsys.readouterr()
    assert "strata-gte-small-2d (built in, default)" in shown.out
    assert "this user has no home folder; name a store in $STRATA_MODEL_STORE" in shown.err
    assert latency.load("0" * 12, "torch", "float32", "cpu", 1) is None
    assert main(["models", "add", "some-lab/model"]) == 1
    assert "hf download some-lab/model" in capsys.readouterr().err


def test_adding_without_what_it_needs_is_said_before_it_starts(tmp_path: Path) -> None:
    """As in the slim image, which has neither package."""
    hide = "import sys; sys.modules['onnx'] = sys.modules['transformers'] = None; import strata.app.cli as c; "
    code = hide.replace(
        "sys.modules['onnx'] = sys.modules['transformers'] = None",
        "import importlib.util as u; "
        "f = u.find_spec; u.find_spec = lambda n, *a: None if n in ('onnx', 'transformers') else f(n, *a)",
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + f"sys.exit(c.main(['models', 'add', {str(tmp_path)!r}]))"],
        env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("strata models add needs onnx and transformers, which this installation leaves out")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (count, "12", 12),
        (positive, "0.5", 0.5),
        (server, "127.0.0.1:8080", "http://127.0.0.1:8080"),
        (server, "https://example.org/strata/", "https://example.org/strata"),
        (server_or_socket, "127.0.0.1:8080", "http://127.0.0.1:8080"),
        *((server_or_socket, text + "/s", "unix:/s") for text in ("unix:", "unix://", "http://unix:")),
        *((server, text, None) for text in ("unix:/s", "http://unix:/s")),
        (counts, "3, 6,12", (3, 6, 12)),
        (exits, "0,6", (0, 6)),
        (positives, "0.5,2", (0.5, 2.0)),
        (share, "1", 1.0),
        (device, "cuda:1", "cuda:1"),
        *((device, text, None) for text in ("gpu", "cuda:", "cuda:x", "cpu:0", "")),
        *((exits, text, None) for text in ("", "3,,6", "-1", "3;6", "3,x")),
        *((share, text, None) for text in ("1.01", "0", "half")),
        *((count, text, None) for text in ("0", "-1", "1.5", "1e3", "", "²")),
        *((positive, text, None) for text in ("0", "-1", "nan", "inf", "1e400", "", "five")),
        *((server, text, None) for text in ("", "ftp://x", "http://", "http://[::1", "x:port", "http://x:99999")),
        *((server, text, None) for text in ("http://a b", "x/?y", "me:pw@x", "x\n")),
    ],
)
def test_a_value_that_cannot_be_is_refused_saying_what_can(
    kind: Callable[[str], object], given: str, value: object
) -> None:
    if value is not None:
        assert kind(given) == value
        return
    with pytest.raises(ArgumentTypeError, match=rf"must be .*\. Given: {re.escape(given)}$"):
        kind(given)
