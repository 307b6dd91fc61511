"""Signals that tell the front to drain, to reload or to end, and that its other processes ignore."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence

# Closed terminals and `systemctl kill` send them to every process there is.
FRONT_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def start_ignoring_signals(
    command: Sequence[str], own: socket.socket, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a process with ``own`` as its standard input that these signals do not end, from its first moment on.

    They are blocked while it starts, which it inherits, and dropped once it sets them to be ignored.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FRONT_SIGNALS)
    try:
        return subprocess.Popen(command, stdin=own.fileno(), env=environment, pass_fds=pass_fds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
