"""`strata serve`: from flags and environment to a running server. What runs it is imported only then."""

from __future__ import annotations

import argparse
import sys

from strata.app import settings
from strata.app.planning.tiers_file import TiersError
from strata.model_store.bundle import registry

add_arguments = settings.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; the exit status, 2 for an option that cannot be."""
    try:
        options = settings.from_arguments(vars(arguments))
        bundle = registry.find(options.model or registry.DEFAULT)
    except settings.SettingsError as error:
        return _refused(str(error))
    except registry.NotFoundError as error:
        return _refused(f"--model: {error}")
    from strata.app.engine.link import EngineError
    from strata.app.engine.pool import EnginePool

    pool = EnginePool(bundle, options.engine)
    try:
        pool.launch()  # the engine's processes import for seconds; so does what follows
    except EngineError as error:
        return _refused(str(error))
    from strata.app import logs
    from strata.app.server import serve
    from strata.app.tracing import TracingError

    logs.configure(options.log_format, options.log_level, requests=options.log_requests)
    try:
        return serve(options, pool)
    except TiersError as error:
        return _refused(f"--tiers {error}")
    except (settings.SettingsError, TracingError) as error:
        return _refused(str(error))


def _refused(message: str) -> int:
    print(f"strata serve: {message}", file=sys.stderr)
    return 2
