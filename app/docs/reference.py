"""The guide's pages that are made of the code when they are read: options and metrics."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import Metric

from strata.app.docs.cells import cell
from strata.app.settings import ENV_PREFIX, Settings
from strata.app.telemetry.metrics import Metrics


def options() -> str:
    """Every option of `strata serve`, by group."""
    lines = [
        "# Options\n",
        "Every option is a flag and an environment variable: `--max-batch-tokens` is `"
        + ENV_PREFIX
        + "MAX_BATCH_TOKENS`. "
        "Flags win over the environment, the environment over the defaults.\n",
    ]
    group = ""
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        if extra["group"] != group:
            group = str(extra["group"])
            lines += [f"\n## {group}\n", "| flag | default | what |", "| --- | --- | --- |"]
        default = "" if field.default in (None, "") else f"`{_shown(field.default)}`"
        flag = "--" + name.replace("_", "-")
        lines.append(f"| `{flag}` | {default} | {cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every series of `/metrics` that is Strata's own or TEI's."""
    lines = [
        "# Metrics\n",
        "`GET /metrics` in Prometheus' text format. Series that begin with `te_` are named as "
        "text-embeddings-inference names them. A histogram has `_bucket`, `_sum` and `_count`. Durations are in "
        "seconds.\n",
        "| series | kind | labels | what |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| `{f.name}` | {f.type} | {_labels(f)} | {cell(f.documentation)} |" for f in Metrics().collect()]
    return "\n".join(lines) + "\n"


def _labels(family: Metric) -> str:
    """Names of a family's labels, also before anything was counted, when no sample has them."""
    names: Sequence[str] = getattr(family, "_labelnames", ())
    return ", ".join(f"`{name}`" for name in names)


def _shown(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
