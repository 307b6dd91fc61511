"""``strata profile``: what a model is worth at every exit, measured and written into its manifest."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from strata import extras, terminal
from strata.arguments import count, counts, server
from strata.model_store.profiling.benchmarks import add_benchmark_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = (
        "Measure a bundle and write the tables into its manifest and card: quality per exit and dim on the sets named, "
        "by task, agreement between exits and the threshold of per-text exit on unlabelled text; and, into the user's "
        "cache, latency on this machine and a picture. With --url, quality through a running server; with both, what "
        "the server gives at its dtype is written into the bundle."
    )
    parser.add_argument("model", nargs="?", metavar="BUNDLE", help="a name from `strata models list`, or a folder")
    parser.add_argument("--url", type=server, metavar="URL", help="measure a running server and compare with its /info")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; compare with what is written, exit with 1 if 0.2 apart"
    )
    quality = parser.add_argument_group(
        "quality",
        "A task's figure is the mean over its sets of the share of the source model's score. Sets that are not named "
        "keep their tables. Every text is embedded once for all exits, dims and query depths.",
    )
    add_benchmark_arguments(quality)
    quality.add_argument(
        "--base",
        type=Path,
        metavar="FOLDER",
        help="the source model, run by sentence-transformers with its own prompts, modules and length: its full-depth "
        "scores are 1.0, and --check works them out again (default: as the manifest has them, else the bundle's own)",
    )
    quality.add_argument(
        "--precision",
        type=_precisions,
        default=("float32",),
        metavar="TYPE,TYPE",
        help="float32, bfloat16, int8: what is computed in; the first gives the shares, another has figures of its "
        "own beside them, int8 always (default: float32; bfloat16 takes 2/5 of the time where the machine has it)",
    )
    quality.add_argument(
        "--output-types",
        type=_output_types,
        default=(),
        metavar="TYPE,TYPE",
        help="int8, binary or both: measure also what these types of output cost (uint8 is as int8, ubinary as binary)",
    )
    quality.add_argument("--exits", type=counts, metavar="N,N", help="with --url, exits to measure (default: all)")
    quality.add_argument("--dims", type=counts, metavar="N,N", help="with --url, dims to measure (default: all)")
    agreement = parser.add_argument_group("agreement and per-text exit")
    agreement.add_argument(
        "--text",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="unlabelled text, one a line (default: prose of Python's manual)",
    )
    agreement.add_argument("--texts", type=count, default=800, metavar="N", help="texts of it (%(default)s)")
    agreement.add_argument("--no-agreement", action="store_true", help="leave both out")
    latency = parser.add_argument_group("latency", "Through the engine, as `strata serve` would run it.")
    latency.add_argument("--batches", type=counts, default=(1, 8, 32), metavar="N,N", help="texts (1,8,32)")
    latency.add_argument("--lengths", type=counts, default=(16, 64, 128), metavar="N,N", help="tokens (16,64,128)")
    latency.add_argument("--backend", choices=("auto", "torch", "onnxruntime"), default="auto")
    latency.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "int8"), default="auto")
    latency.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    latency.add_argument("--no-latency", action="store_true", help="leave it out")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where the PNG goes (default: the cache)")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON, tables to stderr")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Measure; the exit status: 1 when something cannot be measured, or with ``--check`` differs."""
    if missing := extras.missing_of(("scipy", "tqdm", "matplotlib", "httpx")):
        print(f"strata profile {extras.needs(extras.TRAIN, missing)}", file=sys.stderr)
        return 1
    from strata.app.engine.link import EngineError
    from strata.model_store.bundle.registry import NotFoundError

    try:
        _check_options(args)
        if args.url:
            from strata.model_store.profiling.server_profile import profile_server

            return profile_server(args)
        from strata.loadtest.profile.bundle_profile import profile_bundle

        # With --json, tables and progress are for people, and go where they do not mix with the data.
        with redirect_stdout(sys.stderr) if args.json else nullcontext():
            status, found = profile_bundle(args)
        if args.json:
            terminal.print_json(found)
        return status
    except (ValueError, OSError, NotFoundError, EngineError) as error:  # an option, a file or a server at fault
        print(f"strata profile: {error}", file=sys.stderr)
        return 1


def _check_options(args: argparse.Namespace) -> None:
    if not args.url and not args.model:
        raise ValueError("name a BUNDLE or a --url")
    if args.url and args.json:
        raise ValueError("--json is of a bundle; a server tells its tables as JSON at /info")
    if args.url and (args.base or args.text or not (args.sts or args.beir)):
        raise ValueError("--url measures quality: it needs --sts or --beir, and takes no --base or --text")
    if not args.url and (args.exits or args.dims):
        raise ValueError("--exits and --dims go with --url; a bundle is measured at all that it was trained for")
    if args.picture and (args.picture.is_dir() or args.picture.suffix != ".png"):
        raise ValueError(f"--picture {args.picture}: must be the name of a file that ends in .png")


def _output_types(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= {"int8", "binary"}:
        raise argparse.ArgumentTypeError(f"must be int8, binary or both, with a comma between. Given: {text}")
    return names


def _precisions(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= {"float32", "bfloat16", "int8"}:
        raise argparse.ArgumentTypeError(f"must be of float32, bfloat16 and int8, with commas between. Given: {text}")
    return tuple(sorted(names, key="int8".__eq__))  # int8 is told beside another
