"""`strata serve`: from flags and environment to a running server. What runs it is imported only then."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

from strata.app import settings, sighup
from strata.app.callers.tiers_file import TiersError
from strata.app.connections import listening
from strata.app.connections.listening import Listener
from strata.app.engine.link import EngineError
from strata.app.engine.pool import EnginePool
from strata.app.environment import by_variable
from strata.model_store.bundle import registry

add_arguments = settings.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; the exit status, 2 for an option that cannot be."""
    sighup.remember()
    with ExitStack() as begun:
        _end_at_a_signal(begun)
        try:
            options = settings.from_arguments(vars(arguments))
            bundle = registry.find(options.model or registry.DEFAULT)
            listeners = listening.bind(options)
            for listener in listeners:
                begun.callback(listener.close)
            pool = EnginePool(bundle, options.engine)
            begun.callback(pool.abandon)
            pool.launch()  # the engine's processes import for seconds; so does what follows
            return _serve(options, pool, listeners)
        except registry.NotFoundError as error:
            return _refused(f"--model: {error}", arguments)
        except TiersError as error:
            return _refused(f"--tiers {error}", arguments)
        except (settings.SettingsError, EngineError) as error:
            return _refused(str(error), arguments)


def _end_at_a_signal(begun: ExitStack) -> None:
    """Until there is something to drain, a signal ends the start where it stands, and what it has begun.

    It raises nothing: an exception would come out of an import or of pydantic's own code as another one.
    """

    def end(number: int, frame: FrameType | None) -> None:
        begun.close()
        os._exit(130 if number == signal.SIGINT else 0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _serve(options: settings.Settings, pool: EnginePool, listeners: Sequence[Listener]) -> int:
    from strata.app.server import serve
    from strata.app.telemetry import logs
    from strata.app.tracing import TracingError

    logs.configure(options.log_format, options.log_level, requests=options.log_requests)
    try:
        return serve(options, pool, listeners)
    except TracingError as error:
        raise settings.SettingsError(str(error)) from error


def _refused(message: str, given: argparse.Namespace) -> int:
    from strata.terminal import one_line

    print(f"strata serve: {one_line(by_variable(message, vars(given)))}", file=sys.stderr)
    return 2
