"""The model card: what the model is, how it was made and from what, and what it scores."""

from __future__ import annotations

import json
from collections.abc import Sequence

from strata.model_store.bundle.manifest import Manifest
from strata.model_store.profiling.card import scores_section
from strata.model_store.profiling.held_out import ONE_IN
from strata.model_store.training.record import RunRecord


def model_card(manifest: Manifest, record: RunRecord, base: Sequence[str]) -> str:
    """The text of README.md. ``base``: a line for each file of weights that training began from."""
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
        + (f", {_head(manifest)}" if manifest.heads else "")
        + ", the cut, L2 normalisation. "
        + ("A query may stop at exit 0, the embedding layer alone, likewise. " if 0 in manifest.heads else "")
        + "Strata reads all of this from `manifest.json`.\n",
        scores_section(manifest),
        "## Training\n",
        f"{record.steps} steps over {record.texts} texts ({record.tokens} tokens) in {record.seconds:.0f} s on "
        f"{record.device}; every exit is taught by the frozen original ({provenance.made_with}). One command made it, "
        "with the recipe below in `recipe.json`:\n",
        f"```sh\n{record.command}\n```\n",
        f"It begins from {', '.join(base)}. One query in {ONE_IN} of each file of pairs was kept out, by a hash of "
        "its text, for measuring search. The files, with the rows that there were to draw from:\n",
        "\n".join(f"- {line}" for line in record.data) + "\n",
        *(
            ["Terms of the data:\n", "\n".join(f"- {note}" for note in provenance.data) + "\n"]
            if provenance.data
            else []
        ),
        "The recipe:\n",
        f"```json\n{json.dumps(record.recipe.model_dump(), indent=1)}\n```\n",
        "## Licence\n",
        f"{provenance.licence}, as of the model it was made from, {provenance.source}.\n",
    ]
    return "\n".join(parts)


def _head(manifest: Manifest) -> str:
    """What an exit's head does, for the card."""
    if not manifest.head_queries:
        return "its affine map `W p + b` from `heads.safetensors`"
    return (
        f"but with {manifest.head_queries} attention queries `q` from `heads.safetensors`, each of which weighs the "
        "hidden states by the softmax of `q h`, and an affine map `W p + b` of the pooled vectors `p`, joined"
    )


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


def _listed(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(values) == 1 else f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
