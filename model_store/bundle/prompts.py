"""Which of a model's prompts goes before queries, and which before documents."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

InputType = Literal["query", "document"]

# The names that sentence-transformers' encode_query and encode_document look for, and nomic's.
_NAMES: dict[InputType, tuple[str, ...]] = {
    "query": ("query", "search_query"),
    "document": ("document", "passage", "corpus", "search_document"),
}


def prompt_for(prompts: Collection[str], input_type: InputType | None) -> str | None:
    """The name among ``prompts`` for a role, or None where the model has none for it."""
    names = _NAMES[input_type] if input_type else ()
    return next((name for name in names if name in prompts), None)
