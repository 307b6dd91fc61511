"""From what was asked, and the caller's tier, to the terms a request is served on."""

from __future__ import annotations

from app.planning.plan import Ask, PlanRefused, Terms
from app.planning.tier import Tier
from model_store.manifest import Manifest


class Planner:
    """Chooses exits and dim among the trained ones, or among all with ``allow_untrained``."""

    def __init__(self, manifest: Manifest, *, allow_untrained: bool = False) -> None:
        self._manifest = manifest
        self.exits = tuple(range(1, manifest.architecture.layers + 1)) if allow_untrained else manifest.exits
        self._any_dim = allow_untrained
        self.dims = manifest.dims

    def terms(self, ask: Ask, tier: Tier) -> Terms:
        """The terms for an ask; full depth and full length where nothing is asked. Raises PlanRefused."""
        manifest = self._manifest
        layers = manifest.architecture.layers if ask.layers is None else ask.layers
        dim = manifest.full_dim if ask.dim is None else ask.dim
        if layers not in self.exits:
            raise PlanRefused("layers", f"`layers` must be one of {_listed(self.exits)}. Given: {layers}")
        if self._any_dim:
            if not 1 <= dim <= manifest.full_dim:
                raise PlanRefused(
                    "dim", f"`dim` (`dimensions`) must be between 1 and {manifest.full_dim}. Given: {dim}"
                )
        elif dim not in self.dims:
            raise PlanRefused("dim", f"`dim` (`dimensions`) must be one of {_listed(self.dims)}. Given: {dim}")
        quality = manifest.quality.share(layers, dim) if manifest.quality else None
        return Terms((layers,), dim, (quality,), tier.deadline_s, tier.name)


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)
