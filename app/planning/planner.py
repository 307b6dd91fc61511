"""From what was asked, and the caller's tier, to the terms a request is served on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf

from strata.app.planning.plan import Ask, Exits, PlanRefused, Terms
from strata.app.planning.space import parse_space, space_id
from strata.app.planning.tier import Tier
from strata.model_store.bundle.manifest import Manifest


@dataclass(slots=True, frozen=True)
class Explanation:
    """The terms, and why each of the other exits may not be run."""

    terms: Terms
    ruled_out: dict[int, str]


class Planner:
    """Rules exits out until those are left that may be run; ``model`` is name and revision, as in space ids.

    Among the trained exits and dims, or all where ``allow_untrained`` and the caller or the tier names them.
    """

    def __init__(self, manifest: Manifest, model: str, *, allow_untrained: bool = False) -> None:
        self._manifest = manifest
        self._model = model
        self.exits = tuple(range(1, manifest.architecture.layers + 1)) if allow_untrained else manifest.exits
        self._any_dim = allow_untrained
        self.dims = manifest.dims
        self._explained = lru_cache(maxsize=1024)(self.explain)  # clients ask the same again and again

    def terms(self, ask: Ask, tier: Tier) -> Terms:
        """The terms for an ask. Raises PlanRefused.

        Nothing asked is full depth; a floor without a deadline the shallowest exit that meets it. With a deadline every
        exit above the floors is allowed that is worth more than all the allowed ones before it, and load decides.
        """
        return self._explained(ask, tier).terms

    def explain(self, ask: Ask, tier: Tier) -> Explanation:
        """The terms for an ask, and why not the other exits. Raises PlanRefused."""
        if ask.space is None:
            return self._explain(ask, tier)
        try:
            return self._explain(self._in_space(ask, ask.space), tier)
        except PlanRefused as error:
            raise PlanRefused("space", f"`space` {ask.space[:200]} cannot be answered: {error}") from error

    def quality(self, layers: int, dim: int) -> float | None:
        """Measured share of the model's full quality, or None."""
        return self._manifest.quality.share(layers, dim) if self._manifest.quality else None

    def _explain(self, ask: Ask, tier: Tier) -> Explanation:
        dim = self._dim(ask)
        left = _Left(self._candidates(ask, tier), self.exits)
        self._name(left, ask.exits, dim, "`exits`")
        self._name(left, tier.exits, dim, f"the exits of tier `{tier.name}`")
        floor = self._above_layers(left, ask, tier)
        floor |= self._above_quality(left, ask, tier, dim)
        deadline_s = tier.deadline_s if ask.budget_ms is None else ask.budget_ms / 1000
        threshold = None
        if ask.layers == "auto":
            threshold = self._per_text(left)
        elif ask.layers is not None:
            self._pin(left, ask.layers)
        elif deadline_s is None:
            which, chosen = ("shallowest", left.exits[0]) if floor else ("deepest", left.exits[-1])
            left.keep([chosen], f"without a deadline the {which} exit allowed is run")
        else:
            for layers, better in self._beaten(left.exits, dim).items():
                left.rule_out(layers, f"not better than {better} layers, which take less time")
        quality = tuple(self.quality(layers, dim) for layers in left.exits)
        input_type = ask.input_type or tier.input_type
        terms = Terms(tuple(left.exits), dim, quality, deadline_s, tier.name, input_type, threshold)
        return Explanation(terms, left.ruled_out)

    def _in_space(self, ask: Ask, space: str) -> Ask:
        """The ask with depth and length pinned to those of the space."""
        example = space_id(self._model, self._manifest.exits[-1], self._manifest.full_dim)
        parsed = parse_space(space)
        if parsed is None or parsed[0] != self._model:
            raise PlanRefused("space", f"this server answers in spaces like {example}")
        _, layers, dim = parsed
        for field, asked, pinned in (("layers", ask.layers, layers), ("dim", ask.dim, dim)):
            if asked not in (None, pinned):
                raise PlanRefused("space", f"`{field}` is {asked}, and the space's {pinned}")
        return replace(ask, layers=layers, dim=dim)

    def _dim(self, ask: Ask) -> int:
        full = self._manifest.full_dim
        dim = full if ask.dim is None else ask.dim
        if self._any_dim:
            if not 1 <= dim <= full:
                raise PlanRefused("dim", f"`dim` (`dimensions`) must be between 1 and {full}. Given: {dim}")
        elif dim not in self.dims:
            raise PlanRefused("dim", f"`dim` (`dimensions`) must be one of {_listed(self.dims)}. Given: {dim}")
        return dim

    def _candidates(self, ask: Ask, tier: Tier) -> tuple[int, ...]:
        """Untrained exits are run only where they are named: no load makes a vector useless."""
        named = ask.layers is not None or isinstance(ask.exits, tuple) or isinstance(tier.exits, tuple)
        return self.exits if named else self._manifest.exits

    def _name(self, left: _Left, exits: Exits | None, dim: int, whose: str) -> None:
        if exits is None:
            return
        if exits == "shared":
            named: Collection[int] = self._manifest.sharing_at(dim)
            whose = f"the exits that may share an index at {dim} dims"
        else:
            named = exits
            if not set(named) <= set(self.exits):
                raise PlanRefused(
                    "exits", f'{whose} must be "shared" or among {_listed(self.exits)}. Given: {_listed(named)}'
                )
        before = list(left.exits)
        left.keep(named, f"not among {whose}")
        if not left.exits:
            raise PlanRefused(
                "exits", f"{whose}, {_listed(named)}, have none in common with those possible: {_listed(before)}"
            )

    def _above_layers(self, left: _Left, ask: Ask, tier: Tier) -> bool:
        floor, whose = _higher(ask.min_layers, tier.min_layers, tier)
        if floor is None:
            return False
        deepest = left.exits[-1]
        if not 1 <= floor <= deepest:
            raise PlanRefused("min_layers", f"`min_layers`{whose} must be between 1 and {deepest}. Given: {floor}")
        left.keep([layers for layers in left.exits if layers >= floor], f"under `min_layers` {floor}{whose}")
        return True

    def _above_quality(self, left: _Left, ask: Ask, tier: Tier, dim: int) -> bool:
        floor, whose = _higher(ask.min_quality, tier.min_quality, tier)
        if floor is None:
            return False
        shares = {layers: share for layers in left.exits if (share := self.quality(layers, dim)) is not None}
        if not shares:
            what = f"at {dim} dims " if self._manifest.quality else ""
            raise PlanRefused(
                "min_quality",
                f"`min_quality`{whose}: the quality of `{self._manifest.name}` {what}was not measured; "
                "give `min_layers` instead",
            )
        best = max(shares, key=lambda layers: shares[layers])
        if shares[best] < floor:
            raise PlanRefused(
                "min_quality",
                f"`min_quality` {floor:g}{whose} is out of reach at {dim} dims: "
                f"the best of the exits allowed has {shares[best]:.4f}, at {best} layers",
            )
        left.keep(
            [layers for layers in left.exits if shares.get(layers, -inf) >= floor],
            f"under `min_quality` {floor:g}{whose}",
        )
        return True

    def _pin(self, left: _Left, layers: int) -> None:
        if layers not in left.exits:
            why = f" ({left.ruled_out[layers]})" if layers in left.ruled_out else ""
            raise PlanRefused("layers", f"`layers` must be one of {_listed(left.exits)}. Given: {layers}{why}")
        left.keep([layers], f"`layers` is {layers}")

    def _per_text(self, left: _Left) -> float:
        """The threshold of per-text exit; left is full depth, at which the last texts leave. Raises PlanRefused."""
        auto = self._manifest.auto_exit
        if auto is None or auto.refused:
            why = auto.refused if auto and auto.refused else "it was not calibrated (`strata profile` does that)"
            raise PlanRefused("layers", f'`layers` "auto" is not offered by `{self._manifest.name}`: {why}')
        missing = [layers for layers in auto.exits[1:] if layers not in left.exits]
        if missing:
            why = "; ".join(f"{layers}: {left.ruled_out[layers]}" for layers in missing)
            raise PlanRefused("layers", f'`layers` "auto" needs the exits {_listed(auto.exits[1:])} ({why})')
        left.keep(auto.exits[-1:], '`layers` is "auto": each text leaves by itself')
        return auto.threshold

    def _beaten(self, exits: Iterable[int], dim: int) -> dict[int, int]:
        """Exits that are worth no more than a shallower one, and that one. What was not measured is not judged."""
        beaten: dict[int, int] = {}
        best, share = 0, -inf
        for layers in exits:
            quality = self.quality(layers, dim)
            if quality is None:
                continue
            if quality <= share:
                beaten[layers] = best
            else:
                best, share = layers, quality
        return beaten


class _Left:
    """The exits not ruled out yet, ascending, and why the others were."""

    def __init__(self, exits: Iterable[int], known: Iterable[int]) -> None:
        self.exits = list(exits)
        self.ruled_out = {layers: "not trained" for layers in known if layers not in self.exits}

    def keep(self, exits: Collection[int], otherwise: str) -> None:
        for layers in [layers for layers in self.exits if layers not in exits]:
            self.rule_out(layers, otherwise)

    def rule_out(self, layers: int, reason: str) -> None:
        self.exits.remove(layers)
        self.ruled_out[layers] = reason


def _higher(asked: float | None, tiers: float | None, tier: Tier) -> tuple[float | None, str]:
    """The higher of two floors, and whose it is where it is not the caller's."""
    if tiers is None or (asked is not None and asked >= tiers):
        return asked, ""
    return tiers, f" of tier `{tier.name}`"


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)
