"""The model card: what the model is, how it was made and from what, and what it scores."""

from __future__ import annotations

import json
from collections.abc import Mapping

from model_store.manifest import Manifest
from model_store.profiling.quality import QualityReport
from model_store.training.recipe import Recipe

Scores = Mapping[int, Mapping[int, float]]


def model_card(manifest: Manifest, recipe: Recipe, steps: int, data: list[str], report: QualityReport | None) -> str:
    """The text of README.md. ``steps``: how many were made; ``data``: a line for each source drawn from."""
    provenance = manifest.provenance
    exits, dims = _listed(manifest.exits), _listed(manifest.dims)
    parts = [
        _front_matter(manifest),
        f"# {manifest.name}\n",
        f"A 2D Matryoshka encoder made from {provenance.source}: the vector after layer {exits}, "
        f"cut to {dims} dims, is an embedding of its own, each taught to point where the "
        "full-depth vector points; the tables say how well.\n",
        "At full depth it is an ordinary sentence-transformers model. An earlier exit is: that many blocks"
        + (", the final norm" if manifest.exit_norm == "final" else "")
        + f", {manifest.pooling} pooling"
        + (", its affine map `W p + b` from `heads.safetensors`" if manifest.heads else "")
        + ", the cut, L2 normalisation. Strata reads all of this from `manifest.json`.\n",
        "## Scores\n",
        *(_scores(manifest, report) if report else ["Not measured.\n"]),
        "## Training\n",
        f"{steps} steps, every exit in every step, taught by the frozen original ({provenance.made_with}). "
        "Data, and how many rows of it there were to draw from:\n",
        "\n".join(f"- {line}" for line in data) + "\n",
        *(
            ["Terms of the data:\n", "\n".join(f"- {note}" for note in provenance.data) + "\n"]
            if provenance.data
            else []
        ),
        "The recipe:\n",
        f"```json\n{json.dumps(recipe.model_dump(), indent=1)}\n```\n",
        "## Licence\n",
        f"{provenance.licence}, as of the model it was made from, {provenance.source}.\n",
    ]
    return "\n".join(parts)


def _front_matter(manifest: Manifest) -> str:
    return "\n".join(
        [
            "---",
            f"license: {manifest.provenance.licence.lower()}",
            f"base_model: {manifest.provenance.source}",
            "library_name: sentence-transformers",
            "pipeline_tag: sentence-similarity",
            "tags: [sentence-transformers, feature-extraction, 2d-matryoshka]",
            "---\n",
        ]
    )


def _scores(manifest: Manifest, report: QualityReport) -> list[str]:
    parts = []
    if manifest.quality is not None:
        quality = manifest.quality
        parts.append(f"{quality.reference}: {quality.reference_score:.1f} on {quality.benchmark}.\n")
    for sts in report.sts:
        parts += [f"{sts.name} ({sts.pairs} pairs), cosine Spearman x 100:\n", _table(sts.scores)]
    for found in report.retrieval:
        counted = f"{found.name} ({found.queries} queries, {found.documents} documents), nDCG@10 x 100"
        parts += [f"{counted}, queries and documents at the same depth:\n", _table(found.same_depth)]
        parts += [f"{counted}, queries at the exit, documents at full depth:\n", _table(found.to_last)]
    return parts


def _table(scores: Scores) -> str:
    dims = list(next(iter(scores.values())))
    lines = [
        "| exit | " + " | ".join(f"{dim} dims" for dim in dims) + " |",
        "|---" * (len(dims) + 1) + "|",
        *(f"| {layer} | " + " | ".join(f"{row[dim]:.1f}" for dim in dims) + " |" for layer, row in scores.items()),
    ]
    return "\n".join(lines) + "\n"


def _listed(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(values) == 1 else f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
