"""Lines to standard error, as fast as whoever reads them; what does not fit is dropped and counted.

A write to a full pipe waits for its reader, and everything would wait with it: requests, deadlines, `/health`.
"""

from __future__ import annotations

import asyncio
import os
import select
from threading import Lock
from time import monotonic

_PIECE = select.PIPE_BUF  # what a pipe that is ready for writing surely takes
_MOST = 65_536  # bytes kept for a reader that comes back
_LAST_S = 1.0  # at the end, for what is kept


class LogPipe:
    """A file descriptor that is never waited for."""

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0  # lines, in all
        self._descriptor = descriptor
        self._kept = bytearray()
        self._drains_in: asyncio.AbstractEventLoop | None = None  # at the end of its turn
        self._writing = Lock()
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)

    def write(self, line: str) -> bool:
        """Write a line, or keep it until it can be written; False where it is dropped."""
        data = line.encode("utf-8", "backslashreplace")
        if len(self._kept) + len(data) > _MOST:
            self._drain(0)
        if len(self._kept) + len(data) > _MOST:
            self.dropped += 1
            return False
        self._kept += data
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread, or the process before and after it serves
            self._drain(0)
            return True
        if self._drains_in is not loop:  # lines of one turn of the loop are written together
            self._drains_in = loop
            loop.call_soon(self._end_of_turn)
        return True

    @property
    def behind(self) -> bool:
        """Whether more waits for the reader than it takes at once."""
        return len(self._kept) > _PIECE

    def finish(self) -> None:
        """Write what is kept, as far as it goes within a second."""
        end = monotonic() + _LAST_S
        while self._kept and (left := end - monotonic()) > 0:
            self._drain(left)

    def _end_of_turn(self) -> None:
        self._drains_in = None
        self._drain(0)

    def _drain(self, wait_s: float) -> None:
        with self._writing:
            self._write(wait_s)

    def _write(self, wait_s: float) -> None:
        while self._kept and self._ready.poll(wait_s * 1000):
            try:
                done = os.write(self._descriptor, self._kept[:_PIECE])
            except BlockingIOError:
                return
            except OSError:  # the reader is gone, or the disk is full
                self.dropped += self._kept.count(b"\n")
                done = len(self._kept)
            del self._kept[:done]
