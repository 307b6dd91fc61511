"""Every option is a flag and a STRATA_* variable; a bad one is told in a line."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from strata.app.settings import Settings, SettingsError, add_arguments, from_arguments


@pytest.fixture(autouse=True)
def no_variables_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"STRATA_{name.upper()}", raising=False)


def parsed(*flags: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_arguments(vars(parser.parse_args(flags)))


def strata(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "strata.app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_nothing_binds_beyond_this_machine_unless_asked() -> None:
    assert parsed().host == "127.0.0.1"


def test_flags_win_over_the_environment_and_the_environment_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed().port == 8080
    monkeypatch.setenv("STRATA_PORT", "9000")
    assert parsed().port == 9000
    assert parsed("--port", "9001").port == 9001


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_option_is_in_the_help_with_its_variable(name: str) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = parser.format_help()
    assert "--" + name.replace("_", "-") in text
    assert f"STRATA_{name.upper()}" in text


def test_switches_can_be_turned_off_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed("--no-auto-truncate").auto_truncate is False
    monkeypatch.setenv("STRATA_ALLOW_UNTRAINED", "true")
    assert parsed().allow_untrained is True
    assert parsed("--no-allow-untrained").allow_untrained is False


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        (("--port", "high"), "--port"),
        (("--port", "70000"), "--port"),
        (("--workers", "0"), "--workers"),
        (("--device", "CPU"), "--device: must be auto, cpu, cuda or cuda:N"),
        (("--device", "cuda:1\n"), "--device: must be auto"),
        (("--workers", "1000000"), "1000000 threads in all are more than 32 for each of this machine's"),
        (("--threads", "1000000000"), "1000000000 threads in all"),
        (("--workers", "50000", "--threads", "50000"), "2500000000 threads in all"),
        (("--drain-seconds", "-1"), "--drain-seconds"),
        (("--max-queue-texts", "5"), "max_queue_texts"),
    ],
)
def test_a_bad_flag_is_named(flags: tuple[str, ...], place: str) -> None:
    with pytest.raises(SettingsError, match=place):
        parsed(*flags)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_BACKEND", "tensorflow")
    with pytest.raises(SettingsError, match="STRATA_BACKEND"):
        parsed()


def test_the_command_ends_with_status_2_and_one_line() -> None:
    for arguments in (("--port", "high"), ("--model", "/nowhere")):
        result = strata("serve", *arguments)
        assert result.returncode == 2
        assert result.stderr.startswith(f"strata serve: {arguments[0]}")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help"), ("version",)])
def test_help_and_version_answer(arguments: tuple[str, ...]) -> None:
    result = strata(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


def test_the_front_imports_neither_torch_nor_transformers_nor_onnxruntime() -> None:
    heavy = "{'torch', 'transformers', 'onnxruntime', 'onnx'}"
    check = f"import sys, strata.app.server; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
