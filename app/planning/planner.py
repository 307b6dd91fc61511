"""From what was asked, and the caller's tier, to the terms a request is served on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf

from strata.app.callers.tier import Exits, Tier
from strata.app.counted import counted
from strata.app.planning.figures import Figures
from strata.app.planning.plan import Ask, PlanRefused, Terms
from strata.app.planning.space import parse_space, space_id
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.prompts import InputType
from strata.model_store.bundle.quality import Worth

_A_PERCENTAGE = 2.0  # no share of the full quality is this large; who asks for it means per cent


@dataclass(slots=True, frozen=True)
class Explanation:
    """The terms, and why each of the other exits may not be run."""

    terms: Terms
    ruled_out: dict[int, str]


class Planner:
    """Rules exits out until those are left that may be run; ``model`` is name and revision, as in space ids.

    Among the trained exits and dims, or all where ``allow_untrained`` and the caller or the tier names them. ``task``:
    see `Figures`. Raises ValueError for a task that was not measured.
    """

    def __init__(
        self, manifest: Manifest, model: str, *, allow_untrained: bool = False, task: str | None = None
    ) -> None:
        self._manifest = manifest
        self._model = model
        self.exits = tuple(range(1, manifest.architecture.layers + 1)) if allow_untrained else manifest.exits
        self._any_dim = allow_untrained
        self.dims = manifest.dims
        self.figures = Figures(manifest, task)
        self._explained = lru_cache(maxsize=1024)(self.explain)  # clients ask the same again and again

    def engine_runs_at(self, dtype: str) -> None:
        """The engine has chosen its dtype: terms are worked out from the figures of that."""
        self.figures.runs_at(dtype)
        self._explained.cache_clear()

    def terms(self, ask: Ask, tier: Tier) -> Terms:
        """The terms for an ask. Raises PlanRefused.

        Nothing asked is full depth; a floor without a deadline the shallowest exit that meets it. With a deadline every
        exit above the floors is allowed that no allowed one before it beats, and load decides. A document is pinned to
        full depth, or to the space of its index; a query floats among the exits that may search full-depth documents.
        """
        return self._explained(ask, tier).terms

    def explain(self, ask: Ask, tier: Tier) -> Explanation:
        """The terms for an ask, and why not the other exits. Raises PlanRefused."""
        role = ask.input_type or tier.input_type
        if ask.space is None:
            return self._explain(ask, tier, role)
        try:
            return self._explain(self._in_space(ask, ask.space, role), tier, role)
        except PlanRefused as error:
            raise PlanRefused("space", f"`space` {ask.space[:200]} cannot be answered: {error}") from error

    def exits_of(self, role: InputType | None) -> tuple[int, ...]:
        """All exits that requests of a role could have."""
        return (0, *self.exits) if role == "query" and 0 in self._manifest.query_exits else self.exits

    def quality(self, layers: int, terms: Terms) -> Worth | None:
        """What an exit is worth to a request on these terms, or None where it was not measured."""
        return self.figures.worth(layers, terms.dim, terms.task, terms.input_type, terms.output_dtype)

    def space(self, layers: int, terms: Terms) -> str:
        """The space of an answer at an exit; of a query the one it may be searched in."""
        return space_id(self._model, layers if terms.index is None else terms.index, terms.dim)

    def _explain(self, ask: Ask, tier: Tier, role: InputType | None) -> Explanation:
        task = self.figures.counts(ask.task, tier.task, role)
        dim = self._dim(ask)
        pinned = role == "document" and ask.layers is None
        if role == "document":
            ask = self._pinned(ask)
        left = _Left(self._candidates(ask, tier, role), self.exits_of(role))
        if role == "query" and not isinstance(ask.layers, int):
            left.keep(self._searching(dim, task), "queries at this exit were not measured on full-depth documents")
        self._name(left, ask.exits, dim, "`exits`", role)
        if role != "document":
            self._name(left, tier.exits, dim, f"the exits of tier `{tier.name}`", role)
        floor = self._above_layers(left, ask, tier)
        floor |= self._above_quality(left, ask, tier, dim, task, role)
        deadline_s = ask.deadline_s(tier.deadline_s)
        threshold = None
        if ask.layers == "auto":
            threshold = self._per_text(left)
        elif ask.layers is not None:
            self._pin(left, ask.layers, documents=pinned)
        elif deadline_s is None:
            which, chosen = ("shallowest", left.exits[0]) if floor else ("deepest", left.exits[-1])
            left.keep([chosen], f"no deadline: the {which} allowed is run")
        else:
            for layers, better in self.figures.beaten(tuple(left.exits), dim, task, role).items():
                left.rule_out(layers, f"measurably worse than {counted(better, 'layer')}, in more time")
        quality = tuple(self.figures.worth(layers, dim, task, role, ask.output_dtype) for layers in left.exits)
        terms = Terms(
            exits=tuple(left.exits),
            dim=dim,
            quality=quality,
            deadline_s=deadline_s,
            tier=tier.name,
            input_type=role,
            task=task,
            index=self._index(ask, left.exits, dim, task) if role == "query" else None,
            output_dtype=ask.output_dtype,
            threshold=threshold,
        )
        return Explanation(terms, left.ruled_out)

    def _pinned(self, ask: Ask) -> Ask:
        """A document's ask: at full depth unless it names another one itself."""
        if ask.layers == "auto":
            raise PlanRefused("layers", '`layers` "auto" is not for documents: an index has one depth')
        return ask if ask.layers is not None else replace(ask, layers=self._manifest.exits[-1])

    def _searching(self, dim: int, task: str | None) -> set[int]:
        """Exits whose queries may be searched among full-depth documents: as measured, or as the exits agree."""
        measured = {e for e in self.exits_of("query") if self.figures.worth(e, dim, task, "query") is not None}
        return measured | set(self._manifest.sharing_at(dim))

    def _index(self, ask: Ask, exits: Collection[int], dim: int, task: str | None) -> int | None:
        """Depth of the documents a query is to be searched among; None where only its own depth will do."""
        last = self._manifest.exits[-1]
        parsed = parse_space(ask.space) if ask.space else None
        if parsed and parsed[1] != last:
            return parsed[1]
        return last if set(exits) <= self._searching(dim, task) else None

    def _in_space(self, ask: Ask, space: str, role: InputType | None) -> Ask:
        """The ask with length and depth pinned to those of the space; a query of full-depth documents floats."""
        example = space_id(self._model, self._manifest.exits[-1], self._manifest.full_dim)
        parsed = parse_space(space)
        if parsed is None or parsed[0] != self._model:
            raise PlanRefused("space", f"this server answers in spaces like {example}")
        _, layers, dim = parsed
        floats = role == "query" and layers == self._manifest.exits[-1]
        for field, asked, pinned in (("layers", ask.layers, layers), ("dim", ask.dim, dim)):
            if asked not in (None, pinned) and not (floats and field == "layers"):
                raise PlanRefused("space", f"`{field}` is {asked}, and the space's {pinned}")
        return replace(ask, layers=ask.layers if floats else layers, dim=dim)

    def _dim(self, ask: Ask) -> int:
        full = self._manifest.full_dim
        dim = full if ask.dim is None else ask.dim
        allowed = f"between 1 and {full}" if self._any_dim else f"one of {_listed(self.dims)}"
        if not (1 <= dim <= full if self._any_dim else dim in self.dims):
            raise PlanRefused("dim", f"`dim` (`dimensions`, `output_dimension`) must be {allowed}. Given: {dim}")
        return dim

    def _candidates(self, ask: Ask, tier: Tier, role: InputType | None) -> tuple[int, ...]:
        """Untrained exits are run only where they are named: no load makes a vector useless."""
        named = ask.layers is not None or isinstance(ask.exits, tuple) or isinstance(tier.exits, tuple)
        if named:
            return self.exits_of(role)
        return self._manifest.query_exits if role == "query" else self._manifest.exits

    def _name(self, left: _Left, exits: Exits | None, dim: int, whose: str, role: InputType | None) -> None:
        if exits is None:
            return
        if exits == "shared":
            named: Collection[int] = self._manifest.sharing_at(dim)
            whose = f"the exits that may share an index at {dim} dims"
        else:
            named = exits
            known = self.exits_of(role)
            if not set(named) <= set(known):
                raise PlanRefused(
                    "exits", f'{whose} must be "shared" or among {_listed(known)}. Given: {_listed(named)}'
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

    def _above_quality(
        self, left: _Left, ask: Ask, tier: Tier, dim: int, task: str | None, role: InputType | None
    ) -> bool:
        floor, whose = _higher(ask.min_quality, tier.min_quality, tier)
        if floor is None:
            return False
        told = [(layers, self.figures.worth(layers, dim, task, role, ask.output_dtype)) for layers in left.exits]
        worths = {layers: worth for layers, worth in told if worth}
        shares = {layers: worth.share for layers, worth in worths.items()}
        as_type = f" as {ask.output_dtype}" if ask.output_dtype not in (None, "float") else ""
        if not shares:
            what = f"at {dim} dims{as_type} " if self._manifest.quality else ""
            raise PlanRefused(
                "min_quality",
                f"`min_quality`{whose}: the quality of `{self._manifest.name}` {what}was not measured; "
                "give `min_layers` instead",
            )
        best = max(shares, key=lambda layers: shares[layers])
        if shares[best] < floor:
            raise PlanRefused(
                "min_quality",
                f"`min_quality` {floor:g}{whose} is out of reach at {dim} dims{as_type}: "
                f"the best of the exits allowed has {shares[best]:.4f} of {worths[best].task}, "
                f"at {counted(best, 'layer')}" + ("; it is a share: 0.95 is 95 %" if floor >= _A_PERCENTAGE else ""),
            )
        left.keep(
            [layers for layers in left.exits if shares.get(layers, -inf) >= floor],
            f"under `min_quality` {floor:g}{whose}",
        )
        return True

    def _pin(self, left: _Left, layers: int, *, documents: bool) -> None:
        if layers not in left.exits and documents:
            why = left.ruled_out.get(layers, "not trained")
            usual = f"documents run {counted(layers, 'layer')} unless `layers` says otherwise"
            raise PlanRefused("layers", f"{usual} ({why})")
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
