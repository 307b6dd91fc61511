"""``strata train``: make an encoder elastic."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from strata import __version__, extras
from strata.arguments import count, counts, exits, positive, whole
from strata.model_store.bundle.manifest import NAME, NAME_TOLD
from strata.model_store.bundle.strict import first_fault
from strata.model_store.profiling.benchmarks import Benchmarks, add_benchmark_arguments
from strata.model_store.training.recipe import ON_A_GPU, Recipe

if TYPE_CHECKING:
    from strata.model_store.training.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options. What is not given here or in ``--recipe`` has the recipe's default."""
    parser.add_argument("base", help="folder of the encoder to train; a frozen copy of it is the teacher")
    parser.add_argument("output", type=Path, help="folder for the trained model; must not exist")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--weights-only",
        action="store_true",
        help="stop when the weights are written to the work folder, neither measured nor made a bundle",
    )
    only.add_argument(
        "--finish",
        action="store_true",
        help="no training: measure and write the model from the work folder's weights, of a run that ended elsewhere",
    )
    only.add_argument(
        "--count-launches",
        action="store_true",
        help="no training: print how many kernels one step launches (on a CPU, operations that would each be one)",
    )
    data = parser.add_argument_group("data", "Files, each with an optional weight: FILE or FILE@WEIGHT.")
    data.add_argument("--text", action="append", default=[], metavar="FILE", help="plain text, one passage a line")
    data.add_argument("--pairs", action="append", default=[], metavar="FILE", help="tsv or jsonl of pairs or triplets")
    data.add_argument("--data-note", action="append", default=[], metavar="TEXT", help="a source and its licence")
    run = parser.add_argument_group("run")
    run.add_argument("--recipe", type=Path, metavar="FILE", help="JSON of recipe fields; options below go over it")
    run.add_argument(
        "--steps", type=count, help="optimizer steps, at most (default: no limit with --minutes, else 1500)"
    )
    run.add_argument(
        "--minutes", type=positive, help="end the schedule after this time if the steps are not done before"
    )
    run.add_argument("--seed", type=whole)
    run.add_argument("--learning-rate", type=positive)
    run.add_argument("--step-tokens", type=count, help="tokens of text in a step (default: 4096; 65536 on a GPU)")
    run.add_argument("--max-tokens", type=count, help="longest text in training, in tokens")
    run.add_argument(
        "--exits",
        type=exits,
        metavar="N,N,...",
        help="layers to train as exits; 0, the embedding layer alone, may be one (default: all)",
    )
    run.add_argument("--dims", type=counts, metavar="N,N,...", help="dims to train besides the full length")
    run.add_argument("--exit-norm", choices=("none", "final"), help="pre-norm encoders: the final norm at every exit")
    run.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="auto: whichever is measured to be faster")
    run.add_argument("--lanes", type=count, help="micro-batches at once on a CPU (default: one a core; 1 on a GPU)")
    run.add_argument(
        "--workers", type=whole, help="processes that make steps ahead (default: up to 12 for a GPU, else 0)"
    )
    run.add_argument("--teacher", metavar="FOLDER", help="another model as the teacher; same vector length")
    run.add_argument("--work", type=Path, metavar="FOLDER", help="checkpoint and log (default: OUTPUT.work)")
    run.add_argument("--checkpoint-minutes", type=positive, default=5.0, help="time between checkpoints (default: 5)")
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    made = parser.add_argument_group("the finished model")
    made.add_argument("--name", help="its name (default: the output folder's)")
    made.add_argument("--source", help="what to call the base (default: what its own files call it)")
    made.add_argument("--licence", help="licence of the base, and so of the result (default: what its card says)")
    add_benchmark_arguments(made)


def run(args: argparse.Namespace) -> int:
    """Train, or go on from the work folder's checkpoint, then measure and write the model. Returns the exit status."""
    if missing := extras.missing_of(("sentence_transformers",)):
        print(f"strata train {extras.needs(extras.TRAIN, missing)}", file=sys.stderr)
        return 1
    try:
        work = args.work or Path(f"{args.output}.work")
        with _no_empty_folder(work):
            _train(args, work)
    except (ValueError, OSError) as error:  # a wrong option, file or checkpoint: the message says which
        print(f"strata train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """Leave none that was not there before."""
    before = folder.exists()
    try:
        yield
    finally:
        if not before:
            with suppress(OSError):  # it is not there, or something is in it
                folder.rmdir()


def has_onnx() -> bool:
    """Whether a bundle can be finished here."""
    return not extras.missing_of(("onnx",))


def _train(args: argparse.Namespace, work: Path) -> None:
    from strata.model_store.encoding.quiet import no_other_bars
    from strata.model_store.importing.importer import check_importable
    from strata.model_store.training.finish import Origin, finish
    from strata.model_store.training.launches import count_launches
    from strata.model_store.training.record import WEIGHTS, RunRecord
    from strata.model_store.training.trainer import device_name
    from strata.model_store.training.writer import write_student

    no_other_bars()
    if args.output.exists():
        raise ValueError(f"{args.output} exists; name a folder that does not")
    name = args.name or args.output.name
    if not re.fullmatch(NAME, name):
        raise ValueError(f"--name {name[:100]!r}: {NAME_TOLD}")
    # A machine lent for its GPU may have no more than training needs, and must not find that out after hours of it.
    without_bundle = args.weights_only or not has_onnx()
    if args.finish and without_bundle:
        raise ValueError("--finish writes a bundle's graphs, and onnx is not installed: pip install onnx")
    if without_bundle and not args.weights_only:
        print("onnx is not installed: this run ends with the weights, to be finished elsewhere", file=sys.stderr)
    benchmarks = Benchmarks.read(args)
    if not args.finish:
        recipe = _recipe(args)
        check_importable(Path(args.base), recipe.max_tokens)  # or hours of training would end in its refusal
        if args.teacher and not Path(args.teacher).is_dir():  # else a hub would be asked for it
            raise ValueError(f"--teacher {args.teacher}: not a folder; name one that holds a model")
        trainer = _trainer(args, recipe, work)
        if args.dims and max(args.dims) > (full := trainer.dims[-1]):  # a recipe's are those of models of any length
            raise ValueError(f"--dims {','.join(map(str, args.dims))}: vectors of this model have 1 to {full} elements")
        if args.count_launches:
            print(f"{count_launches(trainer)} launches a step")
            return
        student = trainer.train(progress_bar=not args.quiet)
        record = RunRecord(
            command=_command(args),
            recipe=recipe,
            exits=student.exits,
            dims=trainer.dims,
            exit_norm=student.encoder.exit_norm if student.encoder.final_norm is not None else None,
            device=device_name(trainer.device),
            data=tuple(trainer.draws.described),
            steps=trainer.position.step,
            texts=trainer.position.texts,
            tokens=trainer.position.tokens,
            seconds=round(trainer.position.seconds, 1),
        )
        write_student(student, work / WEIGHTS, Path(args.base))
        record.write(work)
        if without_bundle:
            print(f"written: {work / WEIGHTS}")
            return
    origin = Origin(Path(args.base), args.source, args.licence, _made_with(), tuple(args.data_note))
    finish(
        RunRecord.read(work),
        origin,
        work,
        args.output,
        name,
        benchmarks,
        progress=not args.quiet,
    )
    print(f"written: {args.output}")


def _trainer(args: argparse.Namespace, recipe: Recipe, work: Path) -> Trainer:
    from strata.model_store.encoding.precision import pick_device
    from strata.model_store.training.memory import keep_freed_memory
    from strata.model_store.training.sources import parse_source, read_groups, read_lines
    from strata.model_store.training.trainer import Trainer, usual_workers

    device = pick_device()
    if device.type == "cpu":
        keep_freed_memory()
    return Trainer(
        recipe,
        args.base,
        work,
        [read_lines(*parse_source(text)) for text in args.text],
        [read_groups(*parse_source(pairs)) for pairs in args.pairs],
        teacher=args.teacher,
        checkpoint_minutes=args.checkpoint_minutes,
        lanes=1 if device.type == "cuda" else args.lanes or len(os.sched_getaffinity(0)),
        workers=usual_workers(device) if args.workers is None else args.workers,
    )


def _command(args: argparse.Namespace) -> str:
    """The command that makes the model again, with base and files by their names: a card tells of no machine."""
    from strata.model_store.importing.facts import source_of
    from strata.model_store.training.sources import parse_source

    words = ["strata train", args.source or source_of(Path(args.base)), args.output.name, "--recipe recipe.json"]
    for option, files in (("--text", args.text), ("--pairs", args.pairs)):
        for file, weight in map(parse_source, files):
            words.append(f"{option} {file.name}" + (f"@{weight:g}" if weight != 1 else ""))
    return " \\\n  ".join([" ".join(words[:4]), *words[4:]])


def _recipe(args: argparse.Namespace) -> Recipe:
    from strata.model_store.encoding.precision import pick_device

    try:
        read = Recipe.model_validate_json(args.recipe.read_bytes()) if args.recipe else Recipe()
    except ValidationError as error:
        raise ValueError(f"{args.recipe}: {first_fault(error)}") from error
    given = {name: getattr(args, name, None) for name in Recipe.model_fields if name != "recipe"}
    fields = ON_A_GPU if pick_device().type == "cuda" else {}
    fields = fields | read.model_dump(exclude_unset=True)
    try:
        return Recipe.model_validate(fields | {name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ValueError(f"these options: {first_fault(error)}") from error


def _made_with() -> str:
    return f"strata train {__version__}"
