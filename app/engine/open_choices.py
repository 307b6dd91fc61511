"""What the options and this machine leave open: the device, how many workers, which backends and dtypes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from strata.app.engine.choose import Candidate, fastest, measure, sample_tokens
from strata.app.engine.cpu import usable_cores
from strata.app.engine.devices import gpu_count, torch_has_cuda
from strata.app.engine.link import EngineError, HostLink, Worker
from strata.app.engine.options import FAITHFUL, EngineOptions
from strata.model_store.bundle.bundle import Bundle, BundleError, read_manifest

# The dtypes each backend has.
_DTYPES = {"torch": ("float32", "bfloat16", "int8"), "onnxruntime": ("float32", "int8")}
_GPU_DTYPES: Mapping[str, tuple[str, ...]] = {"torch": ("float32", "bfloat16", "float16"), "onnxruntime": ()}
_AUTO = ("float32", "bfloat16")
_ROUGH = ("int8",)  # changes vectors more than auto may, unless the operator allows it


class OpenChoices:
    """What may run a bundle under these options, and, once their hosts are started, what does it best."""

    def __init__(self, bundle: Path, options: EngineOptions) -> None:
        self._bundle = bundle
        self._options = options

    @cached_property
    def device(self) -> str:
        """What runs the model: "cpu", "cuda" for every GPU, "cuda:N"."""
        return self._options.device if self._options.device != "auto" else _found_device(self._options.backend)

    def check_device(self) -> None:
        """Raise EngineError where the torch that is installed cannot use the device."""
        if self.device != "cpu" and not torch_has_cuda():
            raise EngineError(
                f"--device: {self.device} needs CUDA, and the torch that is installed was built without CUDA; "
                "install one that has it, or leave it to auto"
            )

    def device_at(self, place: int) -> str:
        """Of the worker at a place: with several GPUs, each has one."""
        return f"cuda:{place}" if self.device == "cuda" else self.device

    def size(self) -> tuple[int, int]:
        """(workers, threads each): on a CPU a worker per core with one thread, one worker per GPU."""
        workers, threads = self._options.workers, self._options.threads
        if self.device != "cpu":
            gpus = 1 if ":" in self.device else max(gpu_count(), 1)
            if workers and workers > gpus:
                have = f"{self.device} is one GPU" if gpus == 1 else f"there are {gpus} GPUs"
                raise EngineError(f"--workers: {have}, and each takes one worker. Given: {workers}")
            return workers or gpus, threads or 1
        cores = usable_cores()
        if threads is None:
            threads = max(1, cores // workers) if workers else 1
        return workers or max(1, cores // threads), threads

    def candidates(self) -> list[tuple[str, str]]:
        """(backend, dtype) pairs that the options leave open, the most exact first. Raises EngineError if none."""
        options = self._options
        backends = [options.backend] if options.backend != "auto" else ["torch", "onnxruntime"]
        if options.backend == "auto":
            backends = [b for b in backends if find_spec(b) and (self.device == "cpu" or b == "torch")]
        dtypes = [options.dtype] if options.dtype != "auto" else [*_AUTO, *_ROUGH * (options.min_cosine < FAITHFUL)]
        known: Mapping[str, tuple[str, ...]] = _DTYPES if self.device == "cpu" else _GPU_DTYPES
        pairs = [(b, d) for d in dtypes for b in backends if d in known[b]]
        if ("torch", "int8") in pairs:
            # One of the two: their vectors differ, and replicas must not choose by a measurement.
            theirs = "torch" if self._torch_has_int8() else "onnxruntime"
            pairs = [(b, d) for b, d in pairs if d != "int8" or b == theirs]
            if not pairs:
                raise EngineError(
                    "--dtype: int8 is not available (on torch it runs on a CPU, by scales that this bundle lacks; "
                    f"measure them: strata models calibrate {self._bundle.name})"
                )
        if not pairs:
            have = "; ".join(f"{b}: {', '.join(known[b])}" for b in backends) or "neither backend is installed"
            raise EngineError(f"--dtype: {options.dtype} is not available on {self.device} ({have})")
        return pairs

    def _torch_has_int8(self) -> bool:
        try:
            return self.device == "cpu" and read_manifest(self._bundle).int8_scales is not None
        except BundleError as error:
            raise EngineError(str(error)) from error

    async def choose(self, hosts: Mapping[str, HostLink]) -> tuple[list[Candidate], Candidate, str]:
        """Load the candidates on these hosts, by backend, and measure them: all, the best, and why it is.

        Raises EngineError where none runs.
        """
        wanted = self.candidates()
        if len(wanted) == 1:
            only = Candidate(*wanted[0], None, None)
            return [only], only, "the only one that the options leave"
        bundle = await asyncio.to_thread(Bundle.open, self._bundle, checksums=False)
        sample = await asyncio.to_thread(sample_tokens, bundle)
        failed: dict[tuple[str, str], str] = {}

        async def load(backend: str, host: HostLink) -> None:
            """One dtype after the other: one that cannot be loaded leaves the others."""
            loaded: list[str] = []
            for dtype in [d for b, d in wanted if b == backend]:
                try:
                    await host.load([*loaded, dtype])
                    loaded.append(dtype)
                except EngineError as error:
                    failed[backend, dtype] = str(error)

        await asyncio.gather(*(load(backend, host) for backend, host in hosts.items()))
        workers: dict[tuple[str, str], Worker] = {}
        for b, d in wanted:
            if (b, d) not in failed:
                try:
                    workers[b, d] = await hosts[b].fork(d, self.device_at(0))
                except EngineError as error:
                    failed[b, d] = str(error)
        if not workers:
            raise EngineError(
                "; ".join(dict.fromkeys(f"{backend}: {reason}" for (backend, _), reason in failed.items()))
            )
        try:
            found = await measure(workers, bundle.manifest, sample)
        finally:
            for worker in workers.values():
                worker.close()
        best, reason = fastest(found, self._options.min_cosine)
        return found + [Candidate(b, d, None, None, why) for (b, d), why in failed.items()], best, reason


def _found_device(backend: str) -> str:
    """ "cuda" where a driver answers and the torch that is installed can use it, else "cpu"."""
    return "cuda" if backend != "onnxruntime" and gpu_count() and torch_has_cuda() else "cpu"
