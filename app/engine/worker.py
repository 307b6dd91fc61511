"""An engine worker: takes a batch, runs it, answers; one batch at a time, until its socket closes."""

from __future__ import annotations

import socket

from strata.app.engine.encoder import Encoder
from strata.app.engine.wire import Kind, decode_batch, encode_result, receive, send


def serve(sock: socket.socket, encoder: Encoder) -> None:
    """Run batches from ``sock`` until the front closes it. A batch that raises fails alone.

    Raises what it raised where the device does not work any more: the worker is then of no use.
    """
    while (message := receive(sock)) is not None:
        _, payload = message
        try:
            kind, parts = Kind.RESULT, encode_result(encoder.run(decode_batch(payload)))
        except Exception as error:
            if not encoder.healthy():
                raise  # whoever replaces this worker gets the device anew; here every batch would fail
            kind, parts = Kind.FAILURE, [f"{type(error).__name__}: {error}".encode()]
        send(sock, kind, parts)
