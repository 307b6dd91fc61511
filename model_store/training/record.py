"""What a run was: kept beside its weights, told in the card, and enough to finish the model on another machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from strata.model_store.bundle.manifest import ExitNorm
from strata.model_store.bundle.strict import Strict, first_fault
from strata.model_store.training.recipe import Recipe

RECORD = "run.json"
WEIGHTS = "model"  # folder of the trained weights


class RunRecord(Strict):
    """One run, as it ended."""

    command: str  # with files by their names
    recipe: Recipe
    exits: tuple[NonNegativeInt, ...]
    dims: tuple[PositiveInt, ...]
    exit_norm: ExitNorm | None  # None where the encoder has no final norm
    steps: NonNegativeInt
    texts: NonNegativeInt
    tokens: NonNegativeInt
    seconds: NonNegativeFloat
    device: str
    data: tuple[str, ...]  # a line for each file drawn from

    def write(self, work: Path) -> None:
        """Write ``run.json`` into the work folder."""
        (work / RECORD).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, work: Path) -> RunRecord:
        """The record of a run that ended. Raises ValueError where there is none, or naming the field at fault."""
        path = work / RECORD
        if not path.exists() or not (work / WEIGHTS).is_dir():
            raise ValueError(f"{work}: holds no {RECORD} with a folder {WEIGHTS}, which a run writes at its end")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ValueError(f"{path}: {first_fault(error)}") from error
