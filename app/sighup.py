"""SIGHUP asks for a reload, from the first moment on: what comes before the server runs is remembered."""

from __future__ import annotations

import signal
from types import FrameType

_came = False


def remember() -> None:
    """Note SIGHUP from now on, where it would end the process otherwise."""
    signal.signal(signal.SIGHUP, _note)


def came() -> bool:
    """Whether one came since `remember`."""
    return _came


def _note(number: int, frame: FrameType | None) -> None:
    global _came
    _came = True
