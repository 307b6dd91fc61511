"""Frames between the front and an engine worker: plain bytes over a socket, never pickle.

A frame is a 5-byte head (payload length, kind) and a payload. Kind JSON carries control messages; BATCH and RESULT
carry arrays in the machine's byte order, as both ends are on one machine.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from strata.app.engine.batch import Batch, BatchResult, Vectors

HEAD = struct.Struct("<IB")
_RESULT_HEAD = struct.Struct("<dII")  # seconds, padded tokens, rows
Part = bytes | memoryview  # of a payload


class Kind(IntEnum):
    """What a frame's payload is."""

    JSON = 1
    BATCH = 2
    RESULT = 3
    FAILURE = 4  # UTF-8 reason: the batch could not be run, the worker lives on


def frame(kind: Kind, payload: bytes) -> bytes:
    """A whole frame."""
    return HEAD.pack(len(payload), kind) + payload


def json_frame(message: dict[str, Any]) -> bytes:
    """A control message as a frame."""
    return frame(Kind.JSON, json.dumps(message).encode())


def encode_batch(batch: Batch) -> bytes:
    """Payload of a BATCH: row count, per row (tokens, layers, dim, normalize), thresholds (NaN: none), token ids."""
    rows = batch.rows
    facts = [fact for r in rows for fact in (len(r.tokens), r.layers, r.dim, r.normalize)]
    thresholds = [math.nan if r.threshold is None else r.threshold for r in rows]
    head = struct.pack(f"=I{len(facts)}i{len(rows)}d", len(rows), *facts, *thresholds)
    return b"".join([head, *(r.tokens.tobytes() for r in rows)])


def decode_batch(payload: bytes | bytearray) -> Batch:
    """The batch of a BATCH payload; its arrays are views of the payload."""
    (count,) = struct.unpack_from("<I", payload)
    facts = np.frombuffer(payload, np.int32, count * 4, offset=4).reshape(count, 4)
    thresholds = np.frombuffer(payload, np.float64, count, offset=4 + count * 16)
    return Batch.of_arrays(facts, thresholds, np.frombuffer(payload, np.int32, offset=4 + count * 24))


def encode_result(result: BatchResult) -> list[Part]:
    """Payload of a RESULT: seconds, padded tokens, row count, layers of each row, dim of each row, then all vectors.

    In parts, so that vectors which lie side by side already are sent from there.
    """
    vectors, count = result.vectors, len(result.layers)
    together = isinstance(vectors, np.ndarray)
    dims = [len(vectors[0])] * count if together else map(len, vectors)
    facts = struct.pack(f"={2 * count}i", *result.layers, *dims)
    head = _RESULT_HEAD.pack(result.seconds, result.padded_tokens, count)
    data = np.ascontiguousarray(vectors).data if together else b"".join(map(np.ndarray.tobytes, vectors))
    return [head + facts, data]


def decode_result(payload: bytes) -> BatchResult:
    """The result of a RESULT payload; its vectors are views of the payload."""
    seconds, padded, count = _RESULT_HEAD.unpack_from(payload)
    facts = struct.unpack_from(f"={2 * count}i", payload, _RESULT_HEAD.size)
    layers, dims = list(facts[:count]), facts[count:]
    flat = np.frombuffer(payload, np.float32, offset=_RESULT_HEAD.size + count * 8)
    vectors: Vectors
    if dims.count(dims[0]) == count:
        vectors = flat.reshape(count, dims[0])
    else:
        vectors = [flat[begin:end] for begin, end in pairwise([0, *accumulate(dims)])]
    return BatchResult(vectors, layers, seconds, padded)


def send(sock: socket.socket, kind: Kind, parts: Sequence[Part]) -> None:
    """Send a frame whose payload is these parts, none of them copied, to a blocking socket."""
    views = [memoryview(part).cast("B") for part in parts]
    views.insert(0, memoryview(HEAD.pack(sum(view.nbytes for view in views), kind)))
    while views:
        sent = sock.sendmsg(views)
        while views and sent >= views[0].nbytes:
            sent -= views.pop(0).nbytes
        if sent:
            views[0] = views[0][sent:]


def receive(sock: socket.socket) -> tuple[Kind, bytearray] | None:
    """The next frame from a blocking socket, or None when the other end has closed it."""
    head = receive_exactly(sock, HEAD.size)
    if head is None:
        return None
    size, kind = HEAD.unpack(head)
    payload = receive_exactly(sock, size)
    return None if payload is None else (Kind(kind), payload)


def receive_exactly(sock: socket.socket, size: int) -> bytearray | None:
    """So many bytes from a blocking socket, or None when the other end has closed it."""
    data = bytearray(size)
    view = memoryview(data)
    got = 0
    while got < size:
        count = sock.recv_into(view[got:])
        if count == 0:
            return None
        got += count
    return data
