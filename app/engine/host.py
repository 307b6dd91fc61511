"""The engine host: loads a bundle once, then forks workers that share its memory.

A forked worker has the library imported and the weights in place, so it starts in milliseconds and costs only the
pages it writes. The host itself computes in one thread at a time, and in none while it forks, which is what makes
forking it sound.
Run by the front as ``python -P -m strata.app.engine.host BACKEND``, with its control socket as standard input.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from strata import PLACE
from strata.app.engine import worker
from strata.app.engine.batch import Batch, Row
from strata.app.engine.encoder import Encoder
from strata.app.engine.low_priority import at_low_priority
from strata.app.engine.options import CPU_BATCH_TOKENS
from strata.app.engine.signals import FRONT_SIGNALS
from strata.app.engine.wire import Kind, json_frame, receive, send
from strata.model_store.bundle.bundle import Bundle

_TEXT_TOKENS = (64, 32)  # tokens of each text of a batch at warm-up: of one batch 64, of the next 32
# Nice value of a worker on a CPU: the front goes first, as all callers wait for its next millisecond, and only some for
# a batch. With 5 it gets a quarter of a core that the front wants, and all of one that nobody else does.
_WORKER_NICE = 5


class Host:
    """One backend's loaded encoders, by dtype."""

    def __init__(self, bundle: Path, backend: ModuleType, device: str, threads: int) -> None:
        self._bundle = Bundle.open(bundle, checksums=False)  # the front has compared them
        self._backend = backend
        self._device = device
        self._threads = threads
        # CUDA contexts and thread pools do not survive a fork: such encoders are built in the worker.
        self._late = device != "cpu" or (threads > 1 and not backend.THREADS_SURVIVE_FORK)
        self._encoders: dict[str, Encoder] = {}

    def load(self, dtypes: list[str], *, warm: bool) -> None:
        """Hold encoders of exactly these dtypes; with ``warm``, run each once before workers inherit it."""
        self._encoders = {name: kept for name, kept in self._encoders.items() if name in dtypes}
        for dtype in dtypes:
            if dtype not in self._encoders and not self._late:
                self._encoders[dtype] = self._build(dtype, threads=1)
        for encoder in self._encoders.values() if warm else ():
            _warm_up(encoder, self._bundle)
        gc.collect()
        self._bundle.weights.let_go()
        _give_back_memory()
        gc.freeze()  # the collector must not touch, and so copy, pages that workers share

    def _build(self, dtype: str, *, threads: int) -> Encoder:
        backend = self._backend.build(self._bundle, dtype=dtype, device=self._device, threads=threads)
        return Encoder(self._bundle.manifest, backend)

    def work(self, sock: socket.socket, dtype: str, device: str) -> None:
        """The life of a worker, in the forked process, on a device of its own where there are several."""
        self._device = device
        if device == "cpu":
            os.nice(_WORKER_NICE)  # before there are threads, which inherit it
        encoder = self._encoders.get(dtype)
        if encoder is None:
            try:
                encoder = self._build(dtype, threads=self._threads)
                _warm_up(encoder, self._bundle)
            except Exception as error:
                send(sock, Kind.FAILURE, [f"{type(error).__name__}: {error}".encode()])
                raise
        self._backend.set_threads(self._threads)
        sock.sendall(json_frame({"ready": True}))
        worker.serve(sock, encoder)


_MODULES = {"torch": "torch_backend", "onnxruntime": "onnx_backend"}


def _give_back_memory() -> None:
    """Return freed pages to the system (glibc keeps them otherwise; other libcs have no such call)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _warm_up(encoder: Encoder, bundle: Bundle) -> None:
    """Run every block once, and one block at every size of a batch.

    So no request pays for what is set up once, and workers that are forked later share the memory that it takes.
    """
    m = bundle.manifest

    def run(lengths: list[int], layers: int) -> None:
        encoder.run(Batch([Row(np.zeros(length, np.int32), layers, m.full_dim) for length in lengths]))

    longest = min(48, m.max_tokens)
    run([longest, max(longest // 3, 1), max(longest // 4, 1)], m.architecture.layers)
    for number, size in enumerate(encoder.sizes(CPU_BATCH_TOKENS)):
        usual = size if size <= _TEXT_TOKENS[0] else _TEXT_TOKENS[number % len(_TEXT_TOKENS)]
        usual = min(usual, m.max_tokens)
        run([usual] * (size // usual) + [size % usual] * (size % usual > 0), 1)


def main() -> None:
    """Answer the front's commands: load, fork. Ends when the front closes the control socket."""
    for number in FRONT_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps workers; the front sees their sockets close
    control = socket.socket(fileno=os.dup(0))
    # Importing takes longest, so it starts before the first command.
    backend = at_low_priority(lambda: importlib.import_module(f"strata.app.engine.backends.{_MODULES[sys.argv[1]]}"))
    host: Host | None = None
    while (message := receive(control)) is not None:
        command: dict[str, Any] = json.loads(message[1])
        try:
            if command["do"] == "fork" and host is not None:
                _fork(control, host, command["dtype"], command["device"])
                continue
            if command.get("place", str(PLACE)) != str(PLACE):
                raise ImportError(f"the engine's code is at {PLACE}, the server's at {command['place']}")
            if host is None:
                host = Host(Path(command["bundle"]), backend, command["device"], command["threads"])
            at_low_priority(partial(host.load, command["dtypes"], warm=command["warm"]))
            control.sendall(json_frame({"ok": True}))
        except Exception as error:
            with suppress(OSError):  # the front is gone: there is nobody to tell
                control.sendall(json_frame({"error": f"{type(error).__name__}: {error}"}))


def _fork(control: socket.socket, host: Host, dtype: str, device: str) -> None:
    front, own = socket.socketpair()
    pid = os.fork()
    if pid:
        own.close()
        with front:
            socket.send_fds(control, [json_frame({"pid": pid})], [front.fileno()])
        return
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # Triton runs a compiler, and must hear how it ended
        front.close()
        control.close()
        os.close(0)
        host.work(own, dtype, device)
        status = 0
    except Exception as error:
        print(f"engine worker: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)  # no clean-up of the host's objects in the child


if __name__ == "__main__":
    main()
