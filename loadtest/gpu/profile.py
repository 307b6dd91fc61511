"""Where a batch's time goes: the host's steps, the device's kernels, the copies."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch.profiler import DeviceType, ProfilerActivity, profile

from strata.app.engine.batch import Batch
from strata.app.engine.encoder import Backend
from strata.app.engine.flat import flatten

_TOP = 14
_COLD = 5  # runs that do not count


def host_steps(backend: Backend, asked: Batch, wait: Callable[[], None], runs: int = 40) -> str:
    """Milliseconds the host spends in each step (launching), medians; then the same with a wait after each."""
    rows = []
    for waited in (False, True):
        found = []
        for _ in range(_COLD + runs):
            marks = [perf_counter()]

            def mark(marks: list[float] = marks, waited: bool = waited) -> None:
                if waited:
                    wait()
                marks.append(perf_counter())

            flat = flatten(asked, by_length=backend.by_length)
            mark()
            state = backend.embed(flat)
            mark()
            done, spent = 0, [0.0, 0.0]
            for layers, begin, _ in flat.exits():
                at = perf_counter()
                state, done = backend.blocks(done, layers, state), layers
                if waited:
                    wait()
                middle = perf_counter()
                state = backend.leave(state, begin, layers)
                if waited:
                    wait()
                spent[0] += middle - at
                spent[1] += perf_counter() - middle
            mark()
            backend.answer(state)
            mark()
            steps = np.diff(marks)
            found.append([steps[0], steps[1], *spent, steps[3], sum(steps)])
        names = ("flatten", "embed", "blocks", "leave", "answer", "all")
        times = 1e3 * np.median(np.array(found[_COLD:]), axis=0)
        rows.append(", ".join(f"{name} {ms:.3f}" for name, ms in zip(names, times, strict=True)))
    return f"launching ms: {rows[0]}\n    waiting after each ms: {rows[1]}"


def kernels(run: Callable[[], object], device: torch.device, runs: int = 5) -> str:
    """Kernels of one run by their time: launches, milliseconds, share; the device's busy time; the copies' share."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CUDA, ProfilerActivity.CPU] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities) as recorded:
        began = perf_counter()
        for _ in range(runs):
            run()
        wall = (perf_counter() - began) / runs
    kinds = recorded.key_averages()
    found = []
    for kind in kinds:
        own = kind.self_device_time_total if on_gpu else kind.self_cpu_time_total
        if own > 0 and (not on_gpu or kind.device_type == DeviceType.CUDA):
            found.append((own / runs / 1e3, kind.count / runs, kind.key))
    found.sort(reverse=True)
    busy, launches = sum(ms for ms, _, _ in found), sum(n for _, n, _ in found)
    copies = sum(ms for ms, _, name in found if "memcpy" in name.lower() or "memset" in name.lower())
    lines = [f"busy {busy:.3f} ms of {1e3 * wall:.3f} (profiled), {launches:.0f} launches, copies {copies:.3f} ms"]
    lines += [f"    {ms:8.3f} ms {n:6.1f} x {1e3 * ms / n:8.1f} us  {name[:110]}" for ms, n, name in found[:_TOP]]
    return "\n".join(lines)
