"""CUDA graphs: a batch's work recorded once per bucket of tokens, so that a launch replaces a dozen."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

import torch

# Token places a recording may have: fine enough that padding costs little, few enough to be recorded at the start.
BUCKETS = (
    *(16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 2560, 3072, 3584, 4096),
    *range(5120, 32769, 1024),
)
ROW_BUCKETS = (16, 64, 256, 1024, 2048)  # the same of rows, where only an exit's work depends on them


def bucket_of(count: int, buckets: Sequence[int]) -> int:
    """The least bucket that holds so many. Raises IndexError where none does."""
    return buckets[bisect_left(buckets, count)]


_stream: Callable[[torch.device], torch.cuda.Stream] = torch.cuda.Stream  # whose constructor torch leaves untyped


class Recorder:
    """Records work at its first call and replays it at later ones. The work reads and writes fixed memory only."""

    def __init__(self, device: torch.device) -> None:
        self._on = device.type == "cuda"
        self._device = device
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        # Whatever a recording allocates is free again when the next one runs, so all share one pool.
        self._pool = torch.cuda.graph_pool_handle() if self._on else None
        self._stream: torch.cuda.Stream | None = _stream(device) if self._on else None

    def __call__(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run ``work``, which ``key`` stands for."""
        if not self._on:
            work()
            return
        graph = self._graphs.get(key)
        if graph is None:
            try:
                graph = self._graphs[key] = self._record(work)
            except RuntimeError as error:  # launching one by one is slower, and right
                print(f"engine: no CUDA graphs: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
                self._on = False
                work()
                return
        graph.replay()

    def _record(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool)
            try:
                work()
            except BaseException:
                with suppress(RuntimeError):  # which would only say that a capture was broken off
                    graph.capture_end()
                raise
            graph.capture_end()
        return graph

    @property
    def recorded(self) -> int:
        """Graphs held."""
        return len(self._graphs)
