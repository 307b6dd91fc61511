"""The front before an engine that only waits: `strata serve` as it is, without workers and without a log."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from strata.app.connections import listening
from strata.app.engine.batch import Batch, BatchResult
from strata.app.engine.choose import EngineChoice
from strata.app.engine.link import Done, settle
from strata.app.engine.pool import EnginePool
from strata.app.server import serve
from strata.app.settings import Settings
from strata.app.telemetry import logs

_WORKERS = 2
_ROWS = 128  # vectors, that are given in turns


class WaitingPool:
    """Stands for `EnginePool`: a batch takes as long as it is told, of which no CPU."""

    def __init__(self, bundle: Path, seconds: float, device: str) -> None:
        self.bundle = bundle
        self.status = "ready"
        self.size = self.idle = _WORKERS
        self.choice = EngineChoice("none", "float32", device, _WORKERS, 1, "no engine", ())
        self.on_event: Callable[..., None] = lambda name, **facts: None
        self.on_idle: Callable[[], None] = lambda: None
        self._seconds = seconds
        rows = np.random.default_rng(0).standard_normal((_ROWS, 4096)).astype(np.float32)
        self._vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    async def start(self) -> None:
        """Nothing is to be started."""

    async def stop(self) -> None:
        """Nothing runs."""

    def run(self, batch: Batch) -> asyncio.Future[BatchResult]:
        """As `start_batch`, to be awaited."""
        ended: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()
        self.start_batch(batch, 0.0, partial(settle, ended))
        return ended

    def start_batch(self, batch: Batch, patience_s: float, done: Done) -> None:
        """Take an idle worker, and answer when the time is over."""
        self.idle -= 1
        asyncio.get_running_loop().call_later(self._seconds, self._end, batch, done)

    def _end(self, batch: Batch, done: Done) -> None:
        self.idle += 1
        rows = batch.rows
        vectors = self._vectors[np.arange(len(rows)) % _ROWS, : rows[0].dim]  # nobody here asks for several lengths
        done(BatchResult(vectors, [row.layers for row in rows], self._seconds, 0))
        self.on_idle()

    def look(self) -> None:
        """No answer waits to be read."""

    def busy_seconds(self) -> Mapping[int, float]:
        """Nobody looks at it here."""
        return {}

    def memory_bytes(self) -> Mapping[str, int]:
        """Likewise."""
        return {}


def main(bundle: Path, engine_s: float, queue_texts: int, most_texts: int, device: str) -> int:
    """Serve on a free port of loopback, which is printed first. ``most_texts`` of a request.

    ``device``: that batches are cut for.
    """
    settings = Settings(port=0, log_requests=False, max_client_batch_size=most_texts, max_queue_texts=queue_texts)
    listeners = listening.bind(settings)
    print(listeners[0].socket.getsockname()[1], flush=True)
    logs.configure("text", "error", requests=False)
    return serve(settings, cast(EnginePool, WaitingPool(bundle, engine_s, device)), listeners)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
