"""Which of a model's prompts goes before queries, and which before documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

InputType = Literal["query", "document"]

# The names that sentence-transformers' encode_query and encode_document look for, and nomic's.
_NAMES: dict[InputType, tuple[str, ...]] = {
    "query": ("query", "search_query"),
    "document": ("document", "passage", "corpus", "search_document"),
}


def prompt_for(prompts: Mapping[str, str], input_type: InputType | None) -> str | None:
    """The name among ``prompts`` (texts by name) for a role, or None where the model has none for it."""
    names = [name for name in _NAMES[input_type] if name in prompts] if input_type else []
    # sentence-transformers saves an empty "query" and "document" into every folder: they must not hide a text.
    return next((name for name in names if prompts[name]), names[0] if names else None)


def prompt_text(prompts: Mapping[str, str], default: str | None, input_type: InputType | None) -> str:
    """What goes before a text: the prompt for its role, else the one named ``default``, else nothing."""
    return prompts.get(prompt_for(prompts, input_type) or default or "", "")
