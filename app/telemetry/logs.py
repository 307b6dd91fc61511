"""What the server says while it runs: one line an event, as text or as JSON. Texts of requests are never logged."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import orjson

from strata.app.telemetry.log_pipe import LogPipe

_logger = logging.getLogger("strata")
_requests = logging.getLogger("strata.request")


def configure(log_format: Literal["text", "json"], level: str, *, requests: bool = True) -> None:
    """Send every line of the process to standard error in one format."""
    handler = _Handler(LogPipe(sys.stderr.fileno())) if sys.stderr else logging.NullHandler()
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    _logger.setLevel(level.upper())
    _requests.disabled = not requests
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # of what is less, there is a line of ours
    # Nothing prints these; finding the caller and the thread would cost more than writing the line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def event(
    name: str,
    facts: Mapping[str, object] | None = None,
    *,
    level: int = logging.INFO,
    error: BaseException | None = None,
) -> None:
    """Log an event of the server and its facts; with ``error``, its traceback too."""
    _logger.log(level, name, exc_info=error, extra={"facts": facts or {}})


def takes_requests() -> bool:
    """Whether lines of requests are written."""
    return not _requests.disabled and _requests.isEnabledFor(logging.INFO)


def request(facts: dict[str, object]) -> None:
    """Log a request that has ended."""
    if takes_requests():
        record = logging.LogRecord("strata.request", logging.INFO, "", 0, "request", None, None)
        record.facts = facts
        _requests.handle(record)


def dropped() -> int:
    """Lines that nobody took in time."""
    return sum(handler.pipe.dropped for handler in logging.root.handlers if isinstance(handler, _Handler))


class _Handler(logging.Handler):
    """Writes lines as far as they are taken, and says afterwards how many were not."""

    def __init__(self, pipe: LogPipe) -> None:
        super().__init__()
        self.pipe = pipe
        self._told = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's line, never waiting."""
        try:
            if self.pipe.write(self.format(record) + "\n") and not self.pipe.behind and self.pipe.dropped > self._told:
                lost, self._told = self.pipe.dropped - self._told, self.pipe.dropped
                event("log_lines_dropped", {"count": lost}, level=logging.WARNING)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """At the end of the process: write what is kept."""
        self.pipe.finish()


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={_plain(value)}" for name, value in getattr(record, "facts", {}).items())
        line = f"{_timestamp(record)} {record.levelname.lower():7} {record.getMessage()}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _plain(value: object) -> str:
    """A value on one line; quoted where a reader or a grep could not tell where it ends."""
    text = str(value)
    return repr(text) if not text or not text.isprintable() or " " in text else text
