"""What the operator says of the engine; light, so that the options of the server can be read before anything else."""

from __future__ import annotations

from dataclasses import dataclass

# Most tokens of a batch on a CPU, unless the operator says otherwise or one text has more: a few hundred are as fast as
# many, and keep the next decision near.
CPU_BATCH_TOKENS = 512
FAITHFUL = 0.9995  # what bfloat16 and float16 keep; int8 does not


@dataclass(slots=True, frozen=True)
class EngineOptions:
    """What the operator fixed; "auto" and None are decided by the pool."""

    backend: str = "auto"
    dtype: str = "auto"
    device: str = "auto"
    workers: int | None = None
    threads: int | None = None
    min_cosine: float = FAITHFUL  # to float32, of every vector, that "auto" must keep
