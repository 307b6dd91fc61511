"""Heads that a base brings: taken up as they are, or refused by name; none is left out of a step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from strata.model_store.importing.sentence_config import read_prompts
from strata.model_store.importing.source import Source
from strata.model_store.training.heads import read_heads
from strata.model_store.training.packing import pack
from strata.model_store.training.sources import GroupSource, LineSource
from strata.model_store.training.student import ExitHeads, Student
from strata.model_store.training.trainer import Trainer, load_model
from strata.model_store.training.writer import write_student
from tests.model_store.folders import edit_json
from tests.training.test_trainer import RECIPE


def student(folder: Path, exits: tuple[int, ...] = (), queries: int = 2) -> Student:
    return Student(load_model(str(folder), torch.device("cpu")), exits, head_queries=queries)


@pytest.fixture
def base(tiny_bert: Path, tmp_path: Path) -> Path:
    """A model with heads of two queries at every exit, none of them as they begin."""
    made = student(tiny_bert)
    assert made.heads is not None
    with torch.no_grad():
        made.heads.bias.normal_()
    write_student(made, tmp_path / "base", tiny_bert)
    return tmp_path / "base"


def test_a_base_with_heads_is_gone_on_from(base: Path) -> None:
    taken = student(base)
    assert read_heads(base, taken)
    assert taken.heads is not None
    assert not taken.heads.bias.eq(0).any()


def test_a_base_without_heads_has_none_to_read(tiny_bert: Path) -> None:
    assert not read_heads(tiny_bert, student(tiny_bert))


@pytest.mark.parametrize(("exits", "queries"), [((), 3), ((1, 3), 2), ((), 0)])
def test_heads_of_another_form_or_of_other_exits_are_refused(base: Path, exits: tuple[int, ...], queries: int) -> None:
    with pytest.raises(ValueError, match=r"heads\.\d\.\w+ is .* and the recipe asks for .* ask for the base's exits"):
        read_heads(base, student(base, exits, queries))


def test_every_step_moves_every_head_and_every_block(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource
) -> None:
    """No step stops early, and so none leaves a head to the momentum of earlier steps, or full depth unheld."""
    run = Trainer(RECIPE.model_copy(update={"ridge_texts": 0}), str(tiny_bert), tmp_path, [lines], [pairs])
    run.begin()
    found = run.student
    assert found.heads is not None
    blocks = [weight for block in found.encoder.blocks() for weight in block.parameters()]
    for step in range(3):
        before = [weight.detach().clone() for weight in blocks]
        heads = [found.heads.tensors(at) for at in range(3)]
        heads = [{part: tensor.detach().clone() for part, tensor in head.items()} for head in heads]
        run.step(run.steps.packed(step), 1.0)
        assert not any(torch.equal(one, other) for one, other in zip(before, blocks, strict=True))
        for at, head in enumerate(heads):
            for part, tensor in head.items():
                assert not torch.equal(tensor, found.heads.tensors(at)[part]), f"exit {at}, {part}"


@pytest.mark.parametrize("bins", [1, 3])
def test_a_head_pools_each_row_as_if_it_were_alone(bins: int) -> None:
    torch.manual_seed(5)
    rows = [[1] * length for length in (5, 3, 3, 2, 1)]
    packed = pack(rows, bins, width=16 // bins + 1, pad_id=0)
    heads, exact = ExitHeads(2, 4, queries=3), torch.randn(2, *packed.ids.shape, 4, requires_grad=True)
    assert heads.queries is not None
    torch.nn.init.normal_(heads.queries)
    found = heads.attend(exact, packed)
    onward = torch.randn_like(found)
    found.backward(onward)
    ours = [exact.grad, heads.queries.grad]
    exact.grad = heads.queries.grad = None
    mine, flat = packed.row_of_token(), exact.flatten(1, 2)
    wanted = []
    for row in range(len(rows)):
        states = flat[:, (mine == row) & packed.is_token()]
        wanted.append(((heads.queries @ states.transpose(1, 2)).softmax(-1) @ states).flatten(1))
    wanted_rows = torch.stack(wanted, dim=1)
    wanted_rows.backward(onward)
    torch.testing.assert_close(found, wanted_rows)
    torch.testing.assert_close(ours, [exact.grad, heads.queries.grad])


def test_prompts_are_the_bases_as_it_has_them(tiny_bert: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_bert, tmp_path / "base"))
    prompts = {"search_query": "Q: ", "passage": "P: "}
    edit_json(base / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="passage")
    write_student(student(base), tmp_path / "written", base)
    assert read_prompts(Source(tmp_path / "written")) == (prompts, "passage")
