"""``strata models``: add, list and verify bundles."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from strata import __version__, terminal
from strata.arguments import count, counts
from strata.model_store.bundle import registry
from strata.model_store.bundle.manifest import NAME, NAME_TOLD

if TYPE_CHECKING:
    from strata.model_store.bundle.manifest import Manifest

_IMPORTS = ("onnx", "transformers")  # what importing needs and serving does not: it writes graphs, reads tokenizers
_PASSES = 4  # over the weights, when a model is added
_SHOWN_EXITS = 4  # of a quality table, spread from the shallowest to full depth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``strata models``."""
    commands = parser.add_subparsers(dest="models_command", metavar="ACTION", required=True)

    add = commands.add_parser(
        "add",
        help="import a model folder into the store",
        description="Import a sentence-transformers folder, a Hugging Face folder or a bundle into the store "
        f"(${registry.STORE_VARIABLE}, else ~/.local/share/strata/models). Families: BERT, RoBERTa and XLM-R, "
        "DistilBERT, MPNet, ModernBERT. Weights must be safetensors. Nothing in the folder is executed, nothing is "
        "downloaded.",
        epilog="Example, a model trained with Matryoshka2dLoss: "
        "strata models add ./my-model --exits 3,6,9,12 --dims 64,128,256,768",
    )
    add.add_argument("path", type=Path, help="the model's folder")
    add.add_argument("--name", help="name in the store (default: the folder's name)")
    add.add_argument("--exits", type=counts, metavar="N,N", help="trained exits; without it, full depth alone")
    add.add_argument(
        "--dims",
        type=counts,
        metavar="N,N",
        help="trained dims (default: matryoshka_dimensions of config.json, else full length; truncate_dim of a "
        "sentence-transformers folder only says how one copy was used, so it counts as a hint)",
    )
    add.add_argument("--pooling", choices=("mean", "cls"), help="how token vectors become one (default: as the folder)")
    add.add_argument(
        "--exit-norm",
        choices=("none", "final"),
        help="ModernBERT with several exits: trained without the final norm (Matryoshka2dLoss) or with it",
    )
    add.add_argument("--max-tokens", type=count, metavar="N", help="longest input (default: as the folder says)")
    add.add_argument("--licence", help="licence of the weights (default: from README.md)")
    add.add_argument("--source", help="where the model comes from, e.g. its hub name (default: from config.json)")
    add.add_argument("--force", action="store_true", help="replace a model of that name")

    add.add_argument("--json", action="store_true", help="print what was added as JSON")

    listing = commands.add_parser("list", help="list the installed models", description="List the installed models.")
    listing.add_argument("--json", action="store_true", help="print it as JSON")

    scales = commands.add_parser(
        "calibrate",
        help="measure the scales that int8 on torch needs",
        description="Measure how each dense layer's input becomes bytes, check the worst cosine to float32 at every "
        "exit on other texts, and keep the scales in the bundle. What does not keep 0.995 is not kept.",
    )
    scales.add_argument("model", help="name of an installed model, or a bundle's folder")
    scales.add_argument(
        "--text",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="text of the kind that will be served, one a line (default: Python's own manual)",
    )
    scales.add_argument("--count", type=count, default=400, metavar="N", help="texts to use (%(default)s)")
    scales.add_argument("--json", action="store_true", help="print it as JSON")

    verify = commands.add_parser(
        "verify",
        help="check models for damage",
        description="Check every file against its checksum, every tensor for shape and finite values, and the "
        "tokenizer. Exits with 1 when anything is wrong.",
    )
    verify.add_argument("--json", action="store_true", help="print it as JSON")
    verify.add_argument("models", nargs="*", metavar="MODEL", help="names or paths (default: all installed)")


def run(args: argparse.Namespace) -> int:
    """Run one subcommand; returns its exit status."""
    commands = {"add": _add, "calibrate": _calibrate, "list": _list, "verify": _verify}
    return commands[args.models_command](args)


def _add(args: argparse.Namespace) -> int:
    missing = [package for package in _IMPORTS if find_spec(package) is None]
    if missing:
        print(
            f"strata models add needs {' and '.join(missing)}, which this installation leaves out: the slim image only "
            "serves. Add the model with the cpu image, or where pip installed Strata, into a store that both see "
            f"(${registry.STORE_VARIABLE}); the bundle then serves from here",
            file=sys.stderr,
        )
        return 1
    from strata.model_store.importing import Overrides, RefusedError, import_model
    from strata.model_store.importing.facts import UNKNOWN_LICENCE, bundle_name

    overrides = Overrides(
        name=args.name,
        pooling=args.pooling,
        exit_norm=args.exit_norm,
        exits=args.exits,
        dims=args.dims,
        max_tokens=args.max_tokens,
        licence=args.licence,
        source=args.source,
    )
    try:
        name = _store_name(args.name or bundle_name(args.path))
        destination = registry.store() / name
        size = sum(file.stat().st_size for file in args.path.glob("*.safetensors"))
        with terminal.progress(f"adding {name}", _PASSES * size) as watch:
            manifest = import_model(
                args.path,
                destination,
                overrides=overrides,
                replace=args.force,
                made_with=f"strata models add {__version__}",
                watch=watch,
            )
    except (RefusedError, OSError) as error:
        print(f"Not added: {terminal.one_line(error)}", file=sys.stderr)
        return 1
    if args.json:
        terminal.print_json(described(registry.Installed(name, destination, False), manifest))
    else:
        print(f"Added {terminal.one_line(name)} ({_shape(manifest)}) at {terminal.one_line(destination)}")
    if not manifest.elastic:
        print(_untrained(manifest.architecture.layers), file=sys.stderr)
    if manifest.provenance.licence == UNKNOWN_LICENCE:
        print("Note: the folder does not say under which licence; --licence records it.", file=sys.stderr)
    return 0


def _list(args: argparse.Namespace) -> int:
    from strata.model_store.bundle.bundle import BundleError, read_manifest

    bundles = registry.installed()
    found: list[tuple[registry.Installed, Manifest | str]] = []
    for bundle in bundles:
        try:
            found.append((bundle, read_manifest(bundle.path)))
        except BundleError as error:
            found.append((bundle, str(error)))
    if args.json:
        terminal.print_json([described(bundle, manifest) for bundle, manifest in found])
        return 0
    if fault := registry.store_fault():
        print(f"The store cannot be looked into: {fault}", file=sys.stderr)
    if not bundles:
        terminal.show(f"No models: none came with this installation and none are in {registry.store()}.")
    for bundle, manifest in found:
        default = ", default" if bundle.name == registry.DEFAULT else ""
        terminal.show(
            terminal.Text(
                f"{terminal.one_line(bundle.name)} ({'built in' if bundle.built_in else 'added'}{default})", "bold"
            )
        )
        if isinstance(manifest, str):
            terminal.show(terminal.facts([("damaged", terminal.Text(manifest, "red"))], indent=2))
            continue
        made = manifest.provenance
        terminal.show(
            terminal.facts(
                [
                    ("model", _shape(manifest)),
                    ("exits", _join(manifest.exits) + ("" if manifest.elastic else " (only full depth is trained)")),
                    ("dims", _join(manifest.dims)),
                    ("quality", _quality(manifest)),
                    ("made from", f"{made.source}, licence {made.licence}"),
                    ("revision", manifest.revision),
                    ("folder", str(bundle.path)),
                ],
                indent=2,
            )
        )
    return 0


def described(bundle: registry.Installed, manifest: Manifest | str) -> dict[str, object]:
    """A bundle as data; with the fault in place of the facts where its manifest cannot be read."""
    found: dict[str, object] = {
        "name": bundle.name,
        "folder": str(bundle.path),
        "built_in": bundle.built_in,
        "default": bundle.name == registry.DEFAULT,
    }
    if isinstance(manifest, str):
        return {**found, "damaged": manifest}
    known = manifest.model_dump(
        mode="json",
        include={"architecture", "pooling", "exits", "dims", "max_tokens", "prompts", "quality", "provenance"},
    )
    return {**found, "revision": manifest.revision, "elastic": manifest.elastic, **known}


def _verify(args: argparse.Namespace) -> int:
    from strata.model_store.bundle.verification import verify

    results: list[dict[str, object]] = []
    for model in args.models or [bundle.path for bundle in registry.installed()]:
        try:
            path = registry.find(model)
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            with terminal.progress(f"verifying {model}", 2 * size) as watch:
                manifest = verify(path, watch)
            results.append({"model": str(model), "sound": True, "revision": manifest.revision})
            told = f"{terminal.one_line(model)}: OK ({_shape(manifest)}, revision {manifest.revision})"
        except (registry.NotFoundError, ValueError, OSError) as error:
            results.append({"model": str(model), "sound": False, "reason": str(error)})
            told = f"{terminal.one_line(model)}: FAILED: {terminal.one_line(error)}"
        if not args.json:
            print(told)
    if args.json:
        terminal.print_json(results)
    return int(not all(result["sound"] for result in results))


def _calibrate(args: argparse.Namespace) -> int:
    missing = [package for package in ("torch", "transformers") if find_spec(package) is None]
    if missing:
        print(
            f"strata models calibrate needs {' and '.join(missing)}, which the slim image leaves out", file=sys.stderr
        )
        return 1
    from strata.model_store.profiling.calibration import calibrate
    from strata.model_store.profiling.texts import read_texts

    try:
        path = registry.find(args.model)
        found = calibrate(path, read_texts(args.text, args.count))
    except (registry.NotFoundError, ValueError, OSError) as error:
        print(f"Not calibrated: {error}", file=sys.stderr)
        return 1
    if args.json:
        terminal.print_json({"model": str(path), **found.model_dump(mode="json")})
    else:
        worst = ", ".join(f"{exit_} = {cosine:.4f}" for exit_, cosine in found.worst_cosine.items())
        print(f"Calibrated {path} on {found.count} texts of {found.texts}; worst cosine to float32 by exit: {worst}")
        if found.wide:
            print(f"Left out of int8, as they cost most of it: {', '.join(found.wide)}")
    return 0


def _untrained(layers: int) -> str:
    """The warning for a model that serves, but whose point it misses."""
    example = _join(tuple(sorted({max(1, layers // 4), max(1, layers // 2), layers}))).replace(" ", ",")
    lines = (
        f"WARNING: only full depth ({layers} layers) is trained, as far as anybody said.",
        "Vectors of earlier layers of a model that was not trained for it are useless, and will be refused.",
        f"If this is a 2D Matryoshka model, add it again with its exits, e.g. --exits {example} --force",
        "If it is not, strata train makes one of it.",
    )
    width = min(max(map(len, lines)), shutil.get_terminal_size().columns)
    return "\n".join(("!" * width, *lines, "!" * width))


def _shape(manifest: Manifest) -> str:
    a = manifest.architecture
    return f"{a.family}, {a.layers} layers x {a.hidden_size}, {manifest.pooling} pooling, {manifest.max_tokens} tokens"


def _quality(manifest: Manifest) -> str:
    """Shares at full length of a few exits, e.g. ``similarity 3 = 0.960, 6 = 0.985, 12 = 1.000; search ...``."""
    if manifest.quality is None:
        return "not measured"
    step = max(1, (len(manifest.exits) - 1) / (_SHOWN_EXITS - 1))
    shown = [manifest.exits[round(i * step)] for i in range(min(_SHOWN_EXITS, len(manifest.exits)))]
    tables = []
    for task in manifest.quality.tasks():
        worths = {exit: manifest.quality.worth(task, exit, manifest.full_dim) for exit in shown}
        row = ", ".join(f"{exit} = {worth.share:.3f}" for exit, worth in worths.items() if worth)
        tables.append(f"{task} {row or 'not measured at full length'}")
    return f"{'; '.join(tables)}, of {manifest.quality.reference}"


def _join(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))


def _store_name(name: str) -> str:
    """The folder's name in the store is the bundle's, so it must not be a path. Raises RefusedError."""
    from strata.model_store.importing import RefusedError

    if not re.fullmatch(NAME, name):
        raise RefusedError(f"--name {name[:100]!r}: {NAME_TOLD}")
    return name
