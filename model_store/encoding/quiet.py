"""What transformers would show by itself."""

from __future__ import annotations

from typing import Any


def no_other_bars() -> None:
    """Keep transformers from drawing a bar for each model it loads or writes: between ours, or in spite of --quiet."""
    from transformers.utils import logging  # here: seconds of import that `--help` should not wait for

    log: Any = logging  # without types
    log.disable_progress_bar()
