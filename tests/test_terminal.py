"""Commands in a terminal: closed pipes, full disks, narrow locales and masks, missing packages; never a traceback."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

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
