"""Who decides the depth: the client, with one depth for all or one for each tier, or the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ELASTIC = "elastic"
_SHARES = {"full": 1.0, "half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4}  # of all layers
KINDS = (
    "full, half, third, quarter, always-N, "
    "static (half to full, shallowest for the tightest deadline), static-N/N/N, elastic"
)
EVERY = (*_SHARES, "static", ELASTIC)


@dataclass(slots=True, frozen=True)
class Policy:
    """Explicit layers for every tier, or none: then the server chooses, within each tier's floor."""

    name: str
    layers: tuple[int, ...] | None  # by tier, tightest deadline first
    min_layers: int | None = None  # asked by every request, beside its tier's floor

    def path(self, tier: int) -> str:
        """Where a tier's requests go."""
        if self.layers is not None:
            return f"/embed?layers={self.layers[tier]}"
        return f"/embed?min_layers={self.min_layers}" if self.min_layers else "/embed"


def parse(names: Sequence[str], exits: Sequence[int], tiers: int, min_layers: int | None) -> list[Policy]:
    """Policies from their names, each once.

    Raises ValueError naming the one that is not known, or that asks for a depth that is no exit.
    """
    full = max(exits)
    policies: dict[str, Policy] = {}
    for name in names:
        if name == ELASTIC:
            policies[name] = Policy(name, None, min_layers)
            continue
        kind, _, depths = name.partition("-")
        if name in _SHARES:
            kind, layers = "always", (nearest(exits, full * _SHARES[name]),) * tiers
        elif name == "static":
            layers = tuple(nearest(exits, full * (0.5 + 0.5 * tier / max(1, tiers - 1))) for tier in range(tiers))
        elif kind in ("always", "static") and all(part.isdecimal() for part in depths.split("/")):
            layers = tuple(int(part) for part in depths.split("/")) * (tiers if kind == "always" else 1)
        else:
            raise ValueError(f"--policies {name}: must be of {KINDS}")
        if len(layers) != tiers or not set(layers) <= set(exits):
            raise ValueError(
                f"--policies {name}: layers must be of {', '.join(map(str, exits))}, one for each of {tiers} tiers"
            )
        name = f"{kind}-{layers[0] if kind == 'always' else '/'.join(map(str, layers))}"
        policies[name] = Policy(name, layers)
    return list(policies.values())


def nearest(exits: Sequence[int], layers: float) -> int:
    """The exit closest to a depth, the deeper of two."""
    return min(exits, key=lambda exit_: (abs(exit_ - layers), -exit_))
