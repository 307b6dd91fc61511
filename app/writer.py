"""A writer: turns rows of numbers into JSON, one answer after another, until the front closes its socket.

Run by the front as ``python -P -m strata.app.writer DESCRIPTOR`` with the socket as standard input; the descriptor is
of the memory that both see.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from mmap import mmap

import numpy as np

from strata.app.engine.signals import FRONT_SIGNALS
from strata.app.engine.wire import receive_exactly
from strata.app.writers import ANSWER, ROWS, SHARED_BYTES, as_json


def main() -> None:
    """Write what is there."""
    for number in FRONT_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sock, shared = socket.socket(fileno=os.dup(0)), mmap(int(sys.argv[1]), SHARED_BYTES)
    with suppress(ConnectionError):  # the front was killed with an answer unread
        sock.sendall(ANSWER.pack(0))
        while (asked := receive_exactly(sock, ROWS.size)) is not None:
            count, dim = ROWS.unpack(asked)
            rows = np.frombuffer(shared, np.float32, count * dim).reshape(count, dim)
            text = as_json(rows)
            shared[: len(text)] = text
            sock.sendall(ANSWER.pack(len(text)))


if __name__ == "__main__":
    main()
