"""Memory that a step has freed is kept for the next: the system would hand it over anew, page by page."""

from __future__ import annotations

import ctypes

# glibc's malloc.h: what is free at the end is not given back, large blocks are not mapped apart, and all threads share
# one heap, since the others' heaps are given back whole.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """From here on this process keeps what it frees; False where the C library has no such choice.

    For a training process on a CPU: its steps are alike, and each frees gigabytes.
    """
    try:
        choose = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    return all([choose(_TRIM_THRESHOLD, _NEVER), choose(_MMAP_MAX, 0), choose(_ARENA_MAX, 1)])
