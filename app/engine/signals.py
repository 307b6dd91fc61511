"""The signals that other processes leave to the front, which is who is told to drain, to reload or to end."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence

# Closed terminals and `systemctl kill` send them to every process there is.
FRONT_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def start_deaf(
    command: Sequence[str], own: socket.socket, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a process, a socket as its standard input, that will ignore these signals: deaf from its first moment on.

    A blocked signal is inherited, waits, and is thrown away when the process ignores it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FRONT_SIGNALS)
    try:
        return subprocess.Popen(command, stdin=own.fileno(), env=environment, pass_fds=pass_fds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
