"""The state of a server in a window of time, as data: what `strata top` shows, and prints with --json."""

from __future__ import annotations

from typing import Any

from strata.app.top.reading import Window, number

_OUTCOMES = ("answered", "refused", "expired", "failed")
# What a caller's own rate, an impossible deadline or a slow upload refuses is no miss, as in the recorded attainment.
_OF_THE_CALLER = ("rate", "infeasible", "upload")


def state(window: Window) -> dict[str, Any]:
    """Rates a second, times in ms, shares of 1; None where nothing was seen."""
    last = window.last
    busy = [window.rate("strata_worker_busy_seconds_total", worker=worker) for worker in _workers(window)]
    return {
        "model": _build(window, "model"),
        "revision": _build(window, "revision"),
        "ready": bool(last.value("strata_ready")),
        "window_s": round(window.seconds, 3),
        "requests_per_s": number(window.rate("te_request_count")),
        "texts_per_s": number(window.rate("te_embed_success")),
        "tokens_per_s": number(window.rate("strata_tokens_total")),
        "failures_per_s": {
            reason: number(window.rate("te_request_failure", err=reason))
            for reason in last.of("te_request_failure", "err")
        },
        "latency_ms": _quantiles(window, "te_request_duration", 0.5, 0.99),
        "queue": {
            "texts": int(last.value("te_queue_size")),
            "tokens": int(last.value("strata_queue_tokens")),
            "oldest_ms": number(1e3 * last.value("strata_queue_oldest_seconds")),
        },
        "workers": {
            **{name: int(last.value(f"strata_workers_{name}")) for name in ("wanted", "alive", "idle")},
            "busy": [number(share) for share in busy],
            "replaced": int(last.value("strata_worker_restarts_total")),
        },
        "layers_aimed_at": int(last.value("strata_level")),
        "layers": _depths(window),
        "tiers": [_tier(window, tier) for tier in last.of("strata_tier_answered_total", "tier")],
        "forecast_error": {
            f"p{round(100 * share)}": number(window.quantile(share, "strata_forecast_error_ratio"))
            for share in (0.5, 0.9)
        },
        "event_loop_lag_ms": _quantiles(window, "strata_event_loop_lag_seconds", 0.99),
        "tokenizer_backlog": int(last.value("strata_tokenizer_backlog")),
        "memory_bytes": {
            process: int(last.value("strata_process_resident_bytes", process=process))
            for process in last.of("strata_process_resident_bytes", "process")
        },
    }


def _tier(window: Window, tier: str) -> dict[str, Any]:
    counts = {name: window.grew(f"strata_tier_{name}_total", tier=tier) for name in _OUTCOMES}
    own = sum(window.grew("strata_tier_refused_total", tier=tier, reason=reason) for reason in _OF_THE_CALLER)
    offered = sum(counts.values()) - own
    in_time = window.grew("strata_tier_answered_total", tier=tier, in_time="true")
    return {
        "tier": tier,
        **{f"{name}_per_s": number(count / window.seconds) for name, count in counts.items()},
        "in_time": number(in_time / offered) if offered else None,
        "wait_ms": _quantiles(window, "strata_tier_queue_seconds", 0.5, 0.99, tier=tier),
        "left_ms": _quantiles(window, "strata_tier_slack_seconds", 0.05, tier=tier),
        "layers": number(window.mean("strata_tier_layers", tier=tier)),
        "quality": number(window.mean("strata_tier_quality", tier=tier)),
    }


def _depths(window: Window) -> dict[str, float]:
    """Share of the texts that ran to each layer."""
    counts = {str(int(bound)): count for bound, count in window.buckets("strata_exit_layers") if bound < float("inf")}
    total = sum(counts.values())
    return {layers: round(count / total, 4) for layers, count in counts.items()} if total else {}


def _quantiles(window: Window, name: str, *shares: float, **labels: str) -> dict[str, float | None]:
    return {f"p{round(100 * share)}": number(1e3 * window.quantile(share, name, **labels)) for share in shares}


def _workers(window: Window) -> list[str]:
    return sorted(window.last.of("strata_worker_busy_seconds_total", "worker"), key=int)


def _build(window: Window, label: str) -> str | None:
    return next(iter(window.last.of("strata_build_info", label)), None)
