"""`strata serve`: from flags and environment to a running server. What runs it is imported only then."""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from app import settings

add_arguments = settings.add_arguments

_MANIFEST = "manifest.json"


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; the exit status, 2 for an option that cannot be."""
    try:
        options = settings.from_arguments(vars(arguments))
        bundle = _bundle_path(options.model)
    except settings.SettingsError as error:
        print(f"strata serve: {error}", file=sys.stderr)
        return 2
    from app import logs
    from app.server import serve

    logs.configure(options.log_format, options.log_level, requests=options.log_requests)
    return serve(options, bundle)


def _bundle_path(model: str | None) -> Path:
    """The folder of the model to serve. Raises SettingsError."""
    shipped = Path(str(files("model_store"))) / "bundles"
    known = sorted(path.parent.name for path in shipped.glob(f"*/{_MANIFEST}"))
    if model is None:
        if not known:
            raise settings.SettingsError("--model: no model is installed; give the folder of a bundle")
        return shipped / known[0]
    for path in (Path(model), shipped / model):
        if (path / _MANIFEST).is_file():
            return path
    raise settings.SettingsError(
        f"--model: {model!r} is neither the folder of a bundle nor one of: {', '.join(known) or 'none installed'}"
    )
