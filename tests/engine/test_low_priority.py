"""The engine host's work in a thread."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import pytest

from strata.app.engine.low_priority import at_low_priority


def test_what_is_done_at_low_priority_has_a_lower_priority_and_the_rest_has_not() -> None:
    before = os.nice(0)
    number, value = at_low_priority(lambda: (threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0)))
    assert number != threading.get_native_id()
    assert value > before == os.nice(0)


@pytest.mark.parametrize("fails", [False, True])
def test_its_thread_is_gone_with_all_that_libraries_do_at_its_end(fails: bool) -> None:
    """A worker forked while MKL cleans up behind a thread inherits a lock that nobody gives back, and hangs."""
    libc = ctypes.CDLL(None)
    key, wait_us = ctypes.c_uint(), 200_000
    assert libc.pthread_key_create(ctypes.byref(key), libc.usleep) == 0  # what a library does at a thread's end

    def work() -> int:
        libc.pthread_setspecific(key, ctypes.c_void_p(wait_us))
        if fails:
            raise ValueError("no such model")
        return threading.get_native_id()

    try:
        before = set(os.listdir("/proc/self/task"))
        if fails:
            with pytest.raises(ValueError, match="no such model"):
                at_low_priority(work)
        else:
            assert not Path(f"/proc/self/task/{at_low_priority(work)}").exists()
        assert set(os.listdir("/proc/self/task")) <= before
    finally:
        libc.pthread_key_delete(key)
