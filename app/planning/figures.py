"""The figures that count for a request: by task and role, at the dtype that runs and in the type that is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from strata.app.planning.plan import PlanRefused
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.output_types import MEASURED_AS, OutputType
from strata.model_store.bundle.prompts import InputType
from strata.model_store.bundle.quality import Side, Worth

# These keep cosine 0.9995 to float32 for every text, so one's figures stand for another's; int8 needs its own.
_ALIKE = ("float32", "bfloat16", "float16")


class Figures:
    """Looks figures up in the manifest. ``task`` is the operator's choice for requests that name none.

    Raises ValueError for a task that was not measured.
    """

    def __init__(self, manifest: Manifest, task: str | None = None) -> None:
        self._quality = manifest.quality
        self._name = manifest.name
        self._default = task
        self.dtype: str | None = manifest.quality.dtype if manifest.quality else None  # that the figures are of
        if task is not None and task not in self.tasks(None):
            raise ValueError(f"--task: {self._told(self.tasks(None))}. Given: {task}")

    @property
    def known(self) -> tuple[str, ...]:
        """Tasks that the model was measured on, for any role and at any dtype."""
        return tuple(dict.fromkeys(each.task for each in self._quality.sets.values())) if self._quality else ()

    def runs_at(self, dtype: str) -> None:
        """The engine computes in ``dtype``: its own figures count, where there are any."""
        quality = self._quality
        if quality is None:
            return
        sides: tuple[Side, ...] = ("alike", "queries")
        own, base = ([quality.tasks(side, kind) for side in sides] for kind in (dtype, quality.dtype))
        if {dtype, quality.dtype} <= set(_ALIKE):  # own figures, once they are of all that the others are of
            self.dtype = dtype if own == base else quality.dtype
        else:
            self.dtype = dtype if any(own) else None

    def tasks(self, input_type: InputType | None) -> tuple[str, ...]:
        """Tasks that a request may name: all that were measured; for queries and documents those of a search."""
        if self._quality is None or self.dtype is None:
            return ()
        return self._quality.tasks(_tasks_side(input_type), self.dtype)

    def counts(self, asked: str | None, tiers: str | None, input_type: InputType | None) -> str | None:
        """The task that counts: the request's, the tier's, the server's; None: the lowest. Raises PlanRefused.

        What a tier or the server says for all does not hold for a role that the task has no figures of.
        """
        known = self.tasks(input_type)
        if asked is not None:
            if asked not in known:
                role = f"for input_type {input_type} " if input_type else ""
                raise PlanRefused("task", f"`task` {role}{self._told(known)}. Given: {asked[:100]}")
            return asked
        return next((task for task in (tiers, self._default) if task in known), None)

    def worth(
        self,
        layers: int,
        dim: int,
        task: str | None = None,
        input_type: InputType | None = None,
        told_as: OutputType | None = None,
    ) -> Worth | None:
        """The figure of a task, or the lowest of those that could be named; None where it was not measured.

        ``told_as``: the type of the answer's numbers; None: float.
        """
        quality, dtype = self._quality, self.dtype
        if quality is None or dtype is None:
            return None
        side = _side(input_type)
        kind = "float" if told_as is None else MEASURED_AS.get(told_as, told_as)
        if kind != "float" and {dtype, quality.dtype} <= set(_ALIKE):  # types of output are measured at one of them
            dtype = quality.dtype
        tasks = (task,) if task else self.tasks(input_type)
        found = [quality.worth(each, layers, dim, side, dtype, kind) for each in tasks]
        known = [worth for worth in found if worth]
        return min(known, key=lambda worth: worth.share) if known and len(known) == len(found) else None

    def beaten(
        self, exits: Collection[int], dim: int, task: str | None, input_type: InputType | None
    ) -> Mapping[int, int]:
        """Exits that another of ``exits`` beats by more than the sets can tell apart, on the task that counts there."""
        if self._quality is None or self._quality.told_apart is None:
            return {}
        found = {}
        for layers in exits:
            worth = self.worth(layers, dim, task, input_type)
            if worth:
                better = self._quality.told_apart.beaten(worth.task, _side(input_type), dim).get(layers)
                if better in exits and better is not None:
                    found[layers] = better
        return found

    def _told(self, known: Collection[str]) -> str:
        return f"must be one of {', '.join(known)}" if known else f"cannot be named: `{self._name}` was not measured"


def _side(input_type: InputType | None) -> Side:
    return "queries" if input_type == "query" else "alike"


def _tasks_side(input_type: InputType | None) -> Side:
    return "queries" if input_type else "alike"
