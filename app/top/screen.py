"""The state of a server, drawn for a terminal of 80 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from strata.app.counted import counted
from strata.terminal import facts, table

_BAR = 30  # characters of a full bar
_GOOD = 0.99  # in time


def screen(url: str, state: dict[str, Any]) -> RenderableType:
    """One frame."""
    ready = Text("ready", "green") if state["ready"] else Text("NOT READY", "bold red")
    head = Text.assemble((state["model"] or "no model", "bold"), f" {state['revision'] or ''}  {url}  ", ready)
    tiers = table(_TIER_COLUMNS, [_tier(t) for t in state["tiers"]])
    return Group(head, "", facts(_load(state)), *_depths(state), tiers, Text(_LEGEND, "dim"))


_LEGEND = (
    "wait: in the queue, median and p99. left: ms left at the answer before the\n"
    "deadline, which 5 % of the answers have less of."
)
_TIER_COLUMNS = ("tier", "req/s>", "in time>", "refused/s>", "wait ms>", "p99>", "left p5>", "layers>", "quality>")


def _load(state: dict[str, Any]) -> list[tuple[str, Text | str]]:
    queue, workers, latency = state["queue"], state["workers"], state["latency_ms"]
    failures = {reason: rate for reason, rate in state["failures_per_s"].items() if rate}
    lines: list[tuple[str, Text | str]] = [
        (
            "load",
            f"{_short(state['requests_per_s'])} requests/s, {_short(state['texts_per_s'])} texts/s, "
            f"{_short(state['tokens_per_s'])} tokens/s",
        ),
        ("latency", f"p50 {_short(latency['p50'])} ms, p99 {_short(latency['p99'])} ms"),
        (
            "queue",
            f"{queue['texts']} texts, {queue['tokens']} tokens, the oldest {_short(queue['oldest_ms'])} ms old",
        ),
        ("workers", _workers(workers)),
        (
            "foreseen",
            f"times of requests, off by {_percent(state['forecast_error']['p50'])} (median), "
            f"{_percent(state['forecast_error']['p90'])} (p90)",
        ),
        (
            "front",
            f"event loop late by {_short(state['event_loop_lag_ms']['p99'])} ms (p99), {state['tokenizer_backlog']} "
            f"requests at the tokenizer, {sum(state['memory_bytes'].values()) / 2**20:.0f} MiB in "
            f"{len(state['memory_bytes'])} processes, what they share counted in each",
        ),
    ]
    if failures:
        told = ", ".join(f"{reason} {_short(rate)}/s" for reason, rate in sorted(failures.items()))
        lines.insert(2, ("no answer", Text(told, "yellow")))
    return lines


def _workers(workers: dict[str, Any]) -> Text:
    short = workers["alive"] < workers["wanted"]
    told = Text(f"{workers['alive']} of {workers['wanted']}, {workers['idle']} idle", "bold red" if short else "")
    busy = ", ".join(_percent(share) for share in workers["busy"])
    told.append(f"; busy {busy}" if busy else "", "")
    told.append(f"; {workers['replaced']} replaced" if workers["replaced"] else "", "yellow")
    return told


def _depths(state: dict[str, Any]) -> list[RenderableType]:
    """A bar for each depth that was run."""
    run = {layers: share for layers, share in state["layers"].items() if share}
    lines: list[RenderableType] = [""]
    for layers, share in run.items():
        bar = "#" * max(1, round(_BAR * share))
        aimed = "  <- aimed at" if int(layers) == state["layers_aimed_at"] else ""
        depth = f"{counted(layers, 'layer'):>10} "
        lines.append(Text.assemble(depth, (f"{bar:<{_BAR}}", "cyan"), f" {_percent(share):>5}{aimed}"))
    return lines if run else ["", Text("no texts in this window", "dim")]


def _tier(tier: dict[str, Any]) -> list[Text | str]:
    share = tier["in_time"]
    return [
        tier["tier"],
        _short(tier["answered_per_s"]),
        "-" if share is None else Text(_percent(share), "green" if share >= _GOOD else "bold red"),
        _short(tier["refused_per_s"]),
        _short(tier["wait_ms"]["p50"]),
        _short(tier["wait_ms"]["p99"]),
        _short(tier["left_ms"]["p5"]),
        _short(tier["layers"]),
        "-" if tier["quality"] is None else f"{tier['quality']:.3f}",
    ]


def _short(value: float | None) -> str:
    """Three figures that count: 0.52, 5.2, 52, 5.2k."""
    if value is None:
        return "-"
    if abs(value) >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    """In whole per cents where those say it."""
    if share is None:
        return "-"
    near = share < 0.0095 or 0.985 <= share < 1
    return f"{100 * share:.1f} %" if share and near else f"{100 * share:.0f} %"
