"""Strata: an elastic embedding server. One import name over the project's folders, which lie here as links."""

from pathlib import Path

__version__ = "0.2.0"

PLACE = Path(__file__).resolve().parent
"""The folder that every process of one installation must come from."""
