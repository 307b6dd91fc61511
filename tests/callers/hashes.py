"""Keys as a tiers file has them."""

from __future__ import annotations

from hashlib import sha256


def hashed(key: str) -> str:
    """The line for the `keys` of a tier."""
    return f"sha256:{sha256(key.encode()).hexdigest()}"
