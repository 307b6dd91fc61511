"""One bar for all of a measurement, with the time that is left."""

from __future__ import annotations

from typing import Self

from tqdm import tqdm


class Progress:
    """Counts characters of text; ``total`` is all there will be. Use it as a context."""

    def __init__(self, label: str, total: int, quiet: bool) -> None:
        shape = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} passed, {remaining} left"
        self._bar = tqdm(total=total, desc=label, disable=quiet, bar_format=shape, mininterval=0.5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def told(self, characters: int) -> None:
        """Texts of so many characters are done."""
        self._bar.update(characters)
