"""What no load explains: tiers that the model can never meet, and deadlines that even an idle server misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path

from strata.app.callers.callers import Callers
from strata.app.callers.tiers_file import TiersError
from strata.app.counted import counted
from strata.app.planning.plan import Ask, Infeasible, PlanRefused, Terms
from strata.app.planning.planner import Planner

_ROOM = 1.25  # times what is predicted, which a budget is advised to have
_SURE = 1.5  # times the deadline: what is nearer may be a slow moment, and is for admission to judge


def check_tiers(path: Path, callers: Callers, planner: Planner) -> None:
    """Refuse the tiers of a file that the model can never meet. Raises TiersError."""
    tasks = planner.figures.known
    for tier in callers.tiers:
        if tier.task is not None and tier.task not in tasks:
            known = f"must be one of {', '.join(tasks)}" if tasks else "cannot be named: the model was not measured"
            raise TiersError(f'{path}: tier "{tier.name}": task: {known}')
        try:
            planner.terms(Ask(), tier)
        except PlanRefused as error:
            raise TiersError(f'{path}: tier "{tier.name}": {error.field}: {error}') from error


def check_feasible(
    terms: Terms, ask: Ask, exits: Sequence[int], texts: int, forecast: Callable[[int], float], spent_s: float = 0.0
) -> None:
    """Raise Infeasible, saying what is possible, where even an idle server would be late.

    ``exits``: all that could be allowed. ``forecast``: seconds to run the texts to a depth with nothing else to do.
    ``spent_s``: since the request came.
    """
    deadline_s = terms.deadline_s
    if deadline_s is None or (needed := forecast(terms.exits[0])) <= _SURE * deadline_s:
        return
    shallower = (layers for layers in exits if layers < terms.exits[0] and forecast(layers) <= deadline_s)
    possible = ", ".join(str(layers) for layers in shallower)
    what = "this text" if texts == 1 else f"these {texts} texts"
    raise Infeasible(
        "budget_ms",
        f"{_whose(terms, ask)}, {deadline_s * 1000:g} ms, is too short: the fewest layers these terms allow, "
        f"{terms.exits[0]}, take about {needed * 1000:.1f} ms for {what} with nothing else to do; "
        f"give `budget_ms` {ceil(1000 * (spent_s + _ROOM * needed))} or more"
        + (f", or allow {counted(possible, 'layer')}" if possible else ""),
    )


def why_not_deeper(layers: int, chosen: int, seconds: float, deadline_s: float | None) -> str | None:
    """Why an exit that the terms allow is not what runs now; None: it is no deeper than that.

    ``seconds``: that it would take now.
    """
    if layers <= chosen:
        return None
    if deadline_s is None:
        return "what else waits leaves no time for it now"
    takes = f"takes {1000 * seconds:.1f} ms of {1000 * deadline_s:g} now"
    return takes if seconds > deadline_s else f"{takes}, and predictions err, and others may come"


def check_tokenized(terms: Terms, ask: Ask, needed: float) -> None:
    """Raise Infeasible where even an idle server would be late with the tokens alone, which take ``needed`` seconds."""
    deadline_s = terms.deadline_s
    if deadline_s is not None and needed > _SURE * deadline_s:
        raise Infeasible(
            "budget_ms",
            f"{_whose(terms, ask)}, {deadline_s * 1000:g} ms, is too short: to tokenize this much text takes about "
            f"{needed * 1000:.0f} ms with nothing else to do; give `budget_ms` more than that, or less text",
        )


def _whose(terms: Terms, ask: Ask) -> str:
    return f"the deadline of tier `{terms.tier}`" if ask.budget_ms is None else "`budget_ms`"
