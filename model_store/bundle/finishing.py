"""The last step of making a bundle, whoever made its tensors: graphs, checksums, manifest."""

from __future__ import annotations

from pathlib import Path

from strata.model_store.bundle.bundle import record_files, write_manifest
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.watch import Watch, unwatched
from strata.model_store.bundle.writing import share


def finish_bundle(folder: Path, manifest: Manifest, watch: Watch = unwatched) -> Manifest:
    """Complete the bundle in ``folder``, which holds weights and tokenizer, and return its final manifest.

    ``manifest.files`` is replaced by what lies in the folder, which everybody may then read. Raises pydantic's
    ValidationError where the facts of the manifest do not fit together.
    """
    from strata.model_store.bundle.graphs import write_graphs  # here: it needs onnx, which training does not

    write_graphs(folder, manifest.architecture)
    complete = Manifest.model_validate({**manifest.model_dump(), "files": record_files(folder, watch)})
    write_manifest(folder, complete)
    share(folder)
    return complete
