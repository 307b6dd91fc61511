"""`strata loadtest`: benchmarks, one command for each promise about speed and size."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, Any

from strata import extras
from strata.arguments import at_least_0, count, device, exits, positive, positives, whole
from strata.loadtest import policies
from strata.loadtest.options import add_common, add_url
from strata.loadtest.scenarios import SCENARIOS

if TYPE_CHECKING:
    from strata.loadtest.figures import Figure

# A closer look at a name: the module that measures it has ``async measure(args, report) -> list[Figure]``. What it
# needs of the extra it imports with itself and not later: what is missing is told before anything is made.
_BENCHMARKS = {
    "depth": "time at fewer layers as a share of full depth",
    "overhead": "throughput through the server as a share of the bare engine's",
    "front": "CPU time that a request costs the process that speaks HTTP, before an engine that only waits",
    "peers": "speed beside Infinity, sentence-transformers and OpenVINO, same model, texts and machine",
    "footprint": "time until ready, and resident memory under load",
    "pictures": "the pictures of README and guides, from the bundle, this machine and a report of slo",
    "look": "what it costs to serve while somebody looks at the explorer's Now",
    "diagrams": "the diagrams of the guides, from the imports of the code and the layers of a bundle",
    "simulate": "the scheduler before many computed replicas and a virtual clock",
    "soak": "minutes of mixed load, errors and disconnects: what memory, descriptors and tasks are left of it",
    "search": "an index of full-depth documents under a flood of queries: depth pinned against depth that floats",
    "gpu": "the engine on one GPU: true at every exit, its speed beside sentence-transformers, and behind HTTP",
    "slo": "deadlines under open-loop load: depth chosen by the server against depth fixed by clients",
}

PEERS = ("infinity", "torch", "openvino", "openvino-int8")
_GPU_SECTIONS = ("machine", "checks", "speed", "beside", "server", "servers", "profile", "variants")
_GPU_DTYPES = ("float32", "bfloat16", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmarks and their options."""
    parser.description = (
        "Benchmarks, one for each promise about speed, depth, deadlines and size. Most start a server of their own and "
        "stop it; depth, slo and search also take the --url of a running one; simulate computes; pictures and diagrams "
        "draw."
    )
    benchmarks = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, summary in _BENCHMARKS.items():
        _ADD[name](benchmarks.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + "."))


def run(args: argparse.Namespace) -> int:
    """Run the benchmark chosen; 1 when it fails, or with --strict when a bar is missed."""
    from strata.loadtest.connection import LoadError
    from strata.loadtest.report import Report

    try:
        module = importlib.import_module(f"strata.loadtest.{args.benchmark}")
    except ModuleNotFoundError as error:
        if (name := (error.name or "strata").partition(".")[0]) == "strata":
            raise
        print(f"strata loadtest {args.benchmark} {extras.needs(extras.LOADTEST, [name])}", file=sys.stderr)
        return 1
    if getattr(args, "url", None) and args.serve_options:
        told = f"{' '.join(args.serve_options)}: options of a server that is started; --url is of one that runs"
        print(f"strata loadtest {args.benchmark}: {told}", file=sys.stderr)
        return 2
    report = Report(args.benchmark, {name: value for name, value in vars(args).items() if name != "command"})
    try:
        figures = asyncio.run(_stoppable(module.measure(args, report)))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except (LoadError, LookupError, OSError, ValueError, CalledProcessError) as error:
        print(f"strata loadtest {args.benchmark}: {error}", file=sys.stderr)
        return 1
    report.close(figures, args.json, args.html)
    return int(args.strict and any(figure.met is False for figure in figures))


async def _stoppable(measuring: Coroutine[Any, Any, list[Figure]]) -> list[Figure]:
    """Measure; when this process is told to end, the servers it started are stopped first, as on an interrupt."""
    task = asyncio.ensure_future(measuring)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _add_depth(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=7)
    add_url(parser)
    parser.add_argument("--requests", type=count, default=24, metavar="N", help="requests of 32 a turn (%(default)s)")
    parser.add_argument("--singles", type=count, default=200, metavar="N", help="single texts a turn (%(default)s)")


def _add_overhead(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=7)
    parser.add_argument("--turn-texts", type=count, default=1536, metavar="N", help="texts a turn (%(default)s)")


def _add_front(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=7)
    add = parser.add_argument
    add("--requests", type=count, default=1000, metavar="N", help="a turn (%(default)s)")
    add("--engine-ms", type=positive, default=3.0, metavar="MS", help="that a batch takes (%(default)s)")


def _add_peers(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=5)
    parser.add_argument(
        "--peers", nargs="+", choices=PEERS, default=PEERS, metavar="PEER", help=f"of {', '.join(PEERS)} (default: all)"
    )
    parser.add_argument(
        "--peer-venv", type=Path, metavar="DIR", help="keep the peers' virtual environments here (default: made anew)"
    )
    parser.add_argument(
        "--peer-python", default=sys.executable, metavar="PATH", help="Python 3.10-3.12 to make them with"
    )
    parser.add_argument(
        "--peer-model", type=Path, metavar="DIR", help="folder the peers load (default: the bundle Strata serves)"
    )
    parser.add_argument(
        "--turn-texts", type=count, default=512, metavar="N", help="texts a library's turn (%(default)s)"
    )
    parser.add_argument("--seconds", type=positive, default=10.0, metavar="S", help="load a turn (%(default)s)")


def _add_footprint(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=5)
    parser.add_argument("--seconds", type=positive, default=20.0, metavar="S", help="load a backend (%(default)s)")


def _add_slo(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=4)
    add_url(parser)
    add = parser.add_argument
    add("--scenario", choices=SCENARIOS, default="burst-gamma", help="the load (%(default)s)")
    add("--trace", type=Path, metavar="FILE", help="CSV with a TIMESTAMP column, for burst-trace")
    add("--seconds", type=count, metavar="S", help="length of the schedule, run once for each policy")
    add("--mean", type=positive, metavar="X", help="mean load, times what full depth can carry")
    add("--peak", type=positive, metavar="X", help="highest load of any second, likewise")
    add("--cv2", type=positive, metavar="N", help="burstiness of the arrivals: CV^2 of the gaps, 1 is Poisson")
    add("--capacity", type=positive, metavar="N", help="texts/s full depth can carry (default: measured first)")
    add("--tiers", type=Path, metavar="FILE", help="tiers of the server (default: those of the scenario)")
    mix = "TIER=SHARE[xTEXTS][:KEY]"
    add("--mix", nargs="+", metavar=mix, help="who sends how much, in requests of so many texts (default: scenario's)")
    add("--policies", nargs="+", metavar="NAME", help=f"of {policies.KINDS} (default: those of the scenario)")
    add("--faults", choices=("kill", "stop"), help="end a worker every 2 s, or let one stand still for 3 s")
    add("--seed", type=whole, default=1, metavar="N", help="of arrivals and tiers (%(default)s)")
    add("--out", type=Path, metavar="DIR", help="report.html and report.json go here (default: runs/slo-SCENARIO-TIME)")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=1)
    add = parser.add_argument
    add("--scenario", choices=SCENARIOS, default="burst-gamma", help="the load, as for slo (%(default)s)")
    add("--trace", type=Path, metavar="FILE", help="CSV with a TIMESTAMP column, for burst-trace")
    add("--seconds", type=count, metavar="S", help="virtual length")
    add("--mean", type=positive, metavar="X", help="mean load, times what full depth can carry")
    add("--peak", type=positive, metavar="X", help="highest load of any second, likewise")
    add("--cv2", type=positive, metavar="N", help="burstiness of the arrivals: CV^2 of the gaps, 1 is Poisson")
    add("--mix", nargs="+", metavar="TIER=SHARE[xTEXTS]", help="who sends how much, as for slo")
    add("--policies", nargs="+", metavar="NAME", help=f"of {policies.KINDS} (default: those of the scenario)")
    add("--replicas", type=count, default=1, metavar="N", help="servers of two workers (%(default)s)")
    add(
        "--front-ms",
        type=at_least_0,
        default=0.5,
        metavar="MS",
        help="of the workers' cores, for each request (%(default)s)",
    )
    add("--oracle", action="store_true", help="compare with the most quality that knowing all arrivals could reach")
    add("--seed", type=whole, default=1, metavar="N", help="of arrivals and lengths (%(default)s)")


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=1)
    add = parser.add_argument
    add("--model", metavar="NAME", help="bundle whose exits are drawn (default: the one shipped)")
    add("--load", type=Path, metavar="FILE", help="report.json of `strata loadtest slo --scenario ramp`")
    add("--out", type=Path, default=Path("pictures"), metavar="DIR", help="where the SVG files go (%(default)s)")


def _add_look(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=10)
    add = parser.add_argument
    add("--seconds", type=positive, default=4.0, metavar="S", help="load a turn (%(default)s)")
    add("--connections", type=count, default=32, metavar="N", help="that ask at once (%(default)s)")


def _add_diagrams(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=1)
    add = parser.add_argument
    add("--model", metavar="NAME", help="bundle whose layers are drawn (default: the one shipped)")
    add("--out", type=Path, default=Path("pictures"), metavar="DIR", help="where the SVG files go (%(default)s)")


def _add_soak(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=1)
    parser.set_defaults(strict=True)  # a leak is a fault on any machine
    add = parser.add_argument
    add("--minutes", type=positive, default=20.0, metavar="N", help="length (%(default)s)")
    add("--load", type=positive, default=0.8, metavar="X", help="load, times what full depth carries (%(default)s)")
    add("--seed", type=whole, default=1, metavar="N", help="of what is asked (%(default)s)")


def _add_search(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=1)
    add_url(parser)
    add = parser.add_argument
    add("--beir", metavar="FOLDER[@SPLIT]", help="documents and queries (default: docstrings of Python's library)")
    add("--pinned", type=exits, default=(), metavar="N,N", help="depths to pin queries at (default: full and half)")
    add(
        "--loads",
        type=positives,
        default=(0.5, 1.0, 2.0, 4.0),
        metavar="X,X",
        help="times what full depth carries (0.5,1,2,4)",
    )
    add("--deadline-ms", type=positive, default=200.0, metavar="MS", help="of every query (%(default)s)")
    add("--seconds", type=positive, default=8.0, metavar="S", help="of each load and policy (%(default)s)")
    add("--cv2", type=positive, default=2.0, metavar="N", help="burstiness of the arrivals (%(default)s)")
    add("--capacity", type=positive, metavar="N", help="queries/s full depth carries (default: measured first)")
    add("--seed", type=whole, default=1, metavar="N", help="of the arrivals (%(default)s)")


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=1)
    add = parser.add_argument
    add("--device", type=device, default="cuda", metavar="DEVICE", help="cuda, cuda:N or cpu (%(default)s)")
    add("--batch", type=count, default=1024, metavar="N", help="short texts of a large batch (%(default)s)")
    add("--seconds", type=positive, default=0.4, metavar="S", help="of each measurement (%(default)s)")
    add(
        "--dtypes",
        nargs="+",
        choices=_GPU_DTYPES,
        default=_GPU_DTYPES,
        metavar="DTYPE",
        help=f"of {', '.join(_GPU_DTYPES)} (default: all)",
    )
    add(
        "--sections",
        nargs="+",
        choices=_GPU_SECTIONS,
        metavar="NAME",
        help=f"of {', '.join(_GPU_SECTIONS)} (default: all but the last)",
    )


_ADD = {
    "search": _add_search,
    "soak": _add_soak,
    "simulate": _add_simulate,
    "depth": _add_depth,
    "overhead": _add_overhead,
    "front": _add_front,
    "peers": _add_peers,
    "footprint": _add_footprint,
    "slo": _add_slo,
    "pictures": _add_pictures,
    "look": _add_look,
    "diagrams": _add_diagrams,
    "gpu": _add_gpu,
}
