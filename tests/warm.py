"""Servers that start without importing: forked from a process that has imported what `strata serve` imports.

It is most of a start, and the same every time. What a test says of it is run by the command itself.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_MESSAGE_BYTES = 1 << 18
# What the interpreter or the C library reads as it starts: a server with others of these is started by the command.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OPENBLAS_", "OMP_")


def fits(env: dict[str, str]) -> bool:
    """Whether a process with these variables more may be forked."""
    return not any(name.startswith(_READ_AT_START) for name in env)


class Forked:
    """A command of `strata` in a process that was forked; to be used as `subprocess.Popen` is."""

    def __init__(
        self, arguments: Sequence[str], sink: int, env: dict[str, str], folder: Path | None = None, first: str = ""
    ) -> None:
        """``first`` is a line of Python that it runs first: there a wait of seconds is made a short one."""
        self.returncode: int | None = None
        self._status, theirs = os.pipe()
        asked = {"arguments": list(arguments), "env": env, "folder": str(folder or Path.cwd()), "first": first}
        source = _source()
        socket.send_fds(source, [json.dumps(asked).encode()], [sink, theirs])
        os.close(theirs)
        self.pid = int(source.recv(32))

    def poll(self) -> int | None:
        """Its exit status, as soon as it has one."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("strata", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended between the two, as `subprocess.Popen` has it
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(os.read(self._status, 32))
            os.close(self._status)
        return self.returncode


@cache
def _source() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", __file__, str(theirs.fileno())]
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # what has threads may not be forked
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), env=alone)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _next_command() -> list[str]:
    """In a forked process, what it is to run. The first process ends here, once nobody asks any more."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    sources: list[socket.socket | int] = [asked, woken]
    statuses: dict[int, int] = {}  # of a child's pid: where its exit status is told
    while True:
        ready, _, _ = select.select(sources, [], [])
        if woken in ready:
            os.read(woken, 4096)
            for pid in list(statuses):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    os.write(statuses[pid], str(os.waitstatus_to_exitcode(status)).encode())
                    os.close(statuses.pop(pid))
        if asked not in ready:
            continue
        message, passed, *_ = socket.recv_fds(asked, _MESSAGE_BYTES, 2)
        if not message:
            sys.exit()
        sink, status_end = passed
        pid = os.fork()
        if pid:
            os.close(sink)
            statuses[pid] = status_end
            asked.send(str(pid).encode())
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.close()
        for number in (*statuses.values(), status_end, woken, wake):
            os.close(number)
        return _become(json.loads(message), sink)


def _become(asked: dict[str, Any], sink: int) -> list[str]:
    """Have output, variables and folder as the command's own process would."""
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["folder"])
    exec(asked["first"], {})
    found: list[str] = asked["arguments"]
    return found


if __name__ == "__main__":
    from strata.app import server  # noqa: F401 - and with it all the rest
    from strata.app.cli import main

    gc.freeze()  # else each process, as it ends, has all of this collected, and so copied: a quarter of a second
    sys.exit(main(_next_command()))
