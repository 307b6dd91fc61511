"""Every option is a flag and a STRATA_* variable; a bad one is told in a line."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from strata.app.cli import main
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
    assert "(default: )" not in text


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
        (("--max-queue-texts", "5"), "--max-queue-texts: must be more than the 1024 of --max-client-batch-size"),
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


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("serve --dtype int4", "serve: --dtype: must be one of auto, float32, bfloat16, float16, int8. Given: int4"),
        ("serve --workers 0", "serve: --workers: must be a whole number, 1 or more. Given: 0"),
        ("serve --port x", "serve: --port: must be a whole number from 0 to 65535. Given: x"),
        ("serve --min-cosine 2", "serve: --min-cosine: must be a number above 0 and at most 1. Given: 2"),
        ("serve --writers -1", "serve: --writers: must be a whole number, 0 or more. Given: -1"),
        ("serve --shadow-share 2", "serve: --shadow-share: must be a number from 0 to 1. Given: 2"),
        ("serve --bogus", "serve: --bogus: not known here; `strata serve --help` tells what is"),
        ("serve --model", "serve: --model: needs a value"),
        ("serve --log-requests=3", "serve: --log-requests/--no-log-requests: takes no value. Given: 3"),
        ("keys new foo", "keys new: foo: not known here; `strata keys new --help` tells what is"),
        ("keys", "keys: missing: ACTION"),
        ("loadtest slo --faults x", "loadtest slo: --faults: must be one of kill, stop. Given: x"),
        ("top --every x", "top: --every: must be a number from 0.1 to 3600. Given: x"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_it_and_what_can(
    arguments: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments.split())
    except SystemExit as end:
        status = int(str(end.code))
    assert (status, capsys.readouterr().err) == (2, f"strata {line}\n")


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("STRATA_UI", "maybe", "STRATA_UI: must be true or false (on or off, yes or no, 1 or 0). Given: maybe"),
        ("STRATA_WORKERS", "0", "STRATA_WORKERS: must be a whole number, 1 or more. Given: 0"),
        (
            "STRATA_MAX_QUEUE_TEXTS",
            "5",
            "STRATA_MAX_QUEUE_TEXTS: must be more than the 1024 of --max-client-batch-size",
        ),
        ("STRATA_MODEL", "nowhere", "STRATA_MODEL: no model 'nowhere'"),
    ],
)
def test_a_variable_that_cannot_be_is_named_in_the_place_of_the_flag(
    variable: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(["serve"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"strata serve: {line}")
    assert told.count("\n") == 1
