"""How many kernels a step launches: a GPU that waits for launches does nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

if TYPE_CHECKING:
    from strata.model_store.training.trainer import Trainer

_CUDA = DeviceType.CUDA
_VIEWS = (
    "view",
    "reshape",
    "transpose",
    "permute",
    "t",
    "select",
    "slice",
    "narrow",
    "expand",
    "as_strided",
    "unsqueeze",
    "squeeze",
    "unbind",
    "split",
    "detach",
    "alias",
    "empty",
    "empty_like",
    "empty_strided",
    "resize_",
    "result_type",
    "item",
    "_local_scalar_dense",
    "lift_fresh",
    "numpy_T",
    "_unsafe_view",
    "set_",
    "is_nonzero",
    "resolve_conj",
    "resolve_neg",
    "pin_memory",
    "_has_compatible_shallow_copy_type",
)  # operations that launch nothing


def count_launches(trainer: Trainer) -> int:
    """Kernels that the second step launches; on a CPU, innermost operations that are no views."""
    trainer.begin()
    made = trainer.steps.ahead(range(2), 0)
    trainer.step(next(made), 1.0)
    batches = next(made)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (trainer.device.type == "cuda")
    with profile(activities=activities) as found:
        trainer.step(batches, 1.0)
    events = found.events() or []
    if trainer.device.type == "cuda":
        return sum(event.device_type == _CUDA for event in events)
    innermost = (event for event in events if not event.cpu_children and event.name.startswith("aten::"))
    return sum(event.name.removeprefix("aten::") not in _VIEWS for event in innermost)
