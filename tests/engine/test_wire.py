"""What crosses between the front and a worker arrives as it was, whatever its size and whether it was sent in parts."""

from __future__ import annotations

import socket
from threading import Thread

import numpy as np
import pytest

from strata.app.engine.batch import BatchResult
from strata.app.engine.wire import Kind, decode_result, encode_result, receive, send


@pytest.mark.parametrize("dims", [[384], [8] * 5, [4, 8, 8, 4], [384] * 3000])
def test_a_result_arrives_whole(dims: list[int]) -> None:
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((len(dims), max(dims) + 1)).astype(np.float32)
    same = len(set(dims)) == 1
    vectors = rows[:, : dims[0]] if same else [row[:dim] for row, dim in zip(rows, dims, strict=True)]
    result = BatchResult(vectors, list(range(len(dims))), 0.25, 3)
    front, own = socket.socketpair()
    with front, own:
        sender = Thread(target=send, args=(own, Kind.RESULT, encode_result(result)))  # more than a socket holds
        sender.start()
        message = receive(front)
        sender.join()
    assert message is not None
    kind, payload = message
    assert kind is Kind.RESULT
    got = decode_result(bytes(payload))
    assert (got.layers, got.seconds, got.padded_tokens) == (result.layers, 0.25, 3)
    for one, other in zip(got.vectors, vectors, strict=True):
        np.testing.assert_array_equal(one, other)
