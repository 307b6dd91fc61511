"""Names that mean an option and are not its name: refused, as what they ask for would be dropped without a word."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from strata.app.api.refusals import VALIDATION, Refusal

# As other servers and libraries call it -> as it is called here.
_MEANT = {
    "layers": (
        "layer",
        "num_layers",
        "n_layers",
        "nlayers",
        "layer_count",
        "target_layer",
        "target_layers",
        "max_layers",
        "exit",
        "exit_layer",
        "early_exit",
        "depth",
        "num_hidden_layers",
    ),
    "dim": (
        "dims",
        "truncate_dim",
        "truncate_dims",
        "truncation_dim",
        "matryoshka_dim",
        "target_dim",
        "output_dim",
        "output_dims",
        "output_dimensions",
        "dimension",
        "embedding_dim",
        "embedding_dims",
        "embedding_dimension",
        "embedding_size",
        "vector_size",
    ),
    "budget_ms": ("budget", "latency_ms", "latency_budget", "latency_budget_ms", "max_latency_ms", "deadline_ms"),
    "min_quality": ("quality", "quality_floor", "quality_min", "minimum_quality"),
    "min_layers": ("layers_min", "minimum_layers", "min_depth"),
    "space": ("vector_space", "space_id"),
    "output_dtype": ("output_type", "embedding_type", "quantization", "precision", "output_format"),
}
# Strata's own names, at any spelling of which a caller means them.
_OWN = (*_MEANT, "exits", "input_type", "output_dimension")
_ALIASES = {re.sub("[^a-z]", "", name): right for right, names in _MEANT.items() for name in names}


def refuse_misspelt(names: Iterable[str], known: frozenset[str]) -> None:
    """Refuse a name that nobody but an option of ours can be meant by. Other unknown ones pass. Raises Refusal."""
    for name in names:
        if right := _meant(name, known):
            raise Refusal(VALIDATION, f"`{name[:50]}` is no option here; the name is `{right}`", name[:50])


@lru_cache(1000)
def _meant(name: str, known: frozenset[str]) -> str | None:
    if name in known or len(name) > 40:
        return None
    plain = re.sub("[^a-z]", "", name.lower())
    right = _ALIASES.get(plain)
    if right in known:
        return right
    for option in _OWN:
        letters = option.replace("_", "")
        if option in known and (plain == letters or (len(letters) > 5 and _one_apart(plain, letters))):
            return option
    return None


def _one_apart(one: str, other: str) -> bool:
    """Whether a letter too many, too few or wrong, or two neighbours swapped, make the difference."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
