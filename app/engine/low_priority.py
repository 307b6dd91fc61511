"""Work at a lower priority, in a thread that is gone when it is done."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_NICE = 10  # added to the nice value: loading goes behind workers that serve
_ENDS_S = 10.0  # the most that a thread's end is waited for


def at_low_priority(work: Callable[[], T]) -> T:
    """Do this at a lower priority: loading takes seconds of a core, which replicas that serve beside this one lack.

    In a thread, since Linux has priorities by thread, and a process that has lowered its own may not raise it again;
    workers are forked from the main thread, whose priority is whole.
    """
    numbers: list[int] = []

    def lowered() -> T:
        numbers.append(threading.get_native_id())
        with suppress(OSError):  # elsewhere than on Linux
            os.setpriority(os.PRIO_PROCESS, numbers[0], os.nice(0) + _NICE)
        return work()

    try:
        with ThreadPoolExecutor(1) as one:
            return one.submit(lowered).result()
    finally:
        for number in numbers:
            _await_end(number)


def _await_end(thread: int) -> None:
    """Wait until the system has ended a thread that Python has joined.

    Before it ends it gives back what libraries keep for it, and MKL holds a lock meanwhile: a process forked in that
    moment would wait for it for ever.
    """
    task, until = Path(f"/proc/self/task/{thread}"), time.monotonic() + _ENDS_S
    while task.exists() and time.monotonic() < until:
        time.sleep(0.0002)
