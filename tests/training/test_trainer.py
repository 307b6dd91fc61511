"""The run: it learns, it resumes to the same weights, and it refuses to resume as another run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention

from strata.model_store.encoding.forward import Lanes
from strata.model_store.training import attention
from strata.model_store.training.checkpoint import CHECKPOINT, CheckpointError
from strata.model_store.training.launches import count_launches
from strata.model_store.training.learning_rate import progress, rate
from strata.model_store.training.packing import Packed, pack
from strata.model_store.training.recipe import Recipe
from strata.model_store.training.sources import GroupSource, LineSource
from strata.model_store.training.steps import Layout, Steps
from strata.model_store.training.student import Student
from strata.model_store.training.trainer import LOG, Trainer, _interruptible, load_model
from tests.endure.conftest import until
from tests.tiny_models import FAMILIES, TinyFamily, texts, tiny_sentence_model

RECIPE = Recipe(
    step_tokens=200,
    passage_chars=110,
    dims=(8, 16),
    steps=24,
    learning_rate=2e-3,
    ridge_texts=40,
    bank=32,
    max_tokens=40,
    precision="fp32",
)


def trainer(base: Path, folder: Path, recipe: Recipe, lines: LineSource, pairs: GroupSource, lanes: int = 1) -> Trainer:
    return Trainer(recipe, str(base), folder, [lines], [pairs], lanes=lanes)


def test_loss_falls(tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource) -> None:
    # No bank and no fitted heads: the first fills as steps go by, and the second leave a tiny encoder little to learn.
    recipe = RECIPE.model_copy(update={"bank": 0, "ridge_texts": 0, "steps": 48})
    trainer(tiny_bert, tmp_path, recipe, lines, pairs).train(progress_bar=False)
    losses = [json.loads(line)["loss"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert len(losses) == recipe.steps
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])


def test_resumed_run_ends_with_the_same_weights(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(tiny_bert, tmp_path / "whole", RECIPE, lines, pairs).train(progress_bar=False)
    halted = trainer(tiny_bert, tmp_path / "halves", RECIPE, lines, pairs)
    step = halted.step

    def interrupted_in_the_twelfth(batches: Sequence[Packed], factor: float) -> dict[str, torch.Tensor | float]:
        if halted.position.step == 11:
            os.kill(os.getpid(), signal.SIGINT)
        return step(batches, factor)

    monkeypatch.setattr(halted, "step", interrupted_in_the_twelfth)
    with pytest.raises(KeyboardInterrupt):
        halted.train(progress_bar=False)
    assert torch.load(tmp_path / "halves" / CHECKPOINT)["position"]["step"] == 12, "the step it was in is kept, too"
    with (tmp_path / "halves" / LOG).open("a") as log:
        log.write('{"step": 13, "loss": 1}\n{"step": 14, "lo')  # what a run that was killed told after its checkpoint
    resumed = trainer(tiny_bert, tmp_path / "halves", RECIPE, lines, pairs)
    assert resumed.train(progress_bar=False) is resumed.student
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.student.state_dict()[name]), name
    assert resumed.position.texts > 24 * 5
    steps = [json.loads(line)["step"] for line in (tmp_path / "halves" / LOG).read_text().splitlines()]
    assert steps == list(range(1, 25))


def test_a_sigterm_ends_a_run_as_an_interrupt_does() -> None:
    heard: list[int] = []
    usual = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with _interruptible() as interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupted.wait(1)
            os.kill(os.getpid(), signal.SIGTERM)  # the second is as any
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_steps_made_ahead_are_the_same(tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource) -> None:
    steps = trainer(tiny_bert, tmp_path, RECIPE, lines, pairs).steps
    for here, elsewhere in zip(steps.ahead(range(3, 7), 0), steps.ahead(range(3, 7), 2), strict=True):
        assert len(here) == len(elsewhere)
        for one, other in zip(here, elsewhere, strict=True):
            assert torch.equal(one.ids, other.ids)
            assert torch.equal(one.places, other.places)


def test_a_run_that_is_killed_leaves_no_process(tiny_bert: Path, tmp_path: Path) -> None:
    """Also where one waits to hand over a step that is larger than a pipe."""
    (tmp_path / "texts.txt").write_text("\n".join(texts(600, seed=8)))
    (tmp_path / "recipe.json").write_text('{"step_tokens": 4096, "ridge_texts": 0, "max_tokens": 40, "bank": 0}')
    options = ("--text", "texts.txt", "--recipe", "recipe.json", "--minutes", "5", "--workers", "2", "--quiet")
    command = [sys.executable, "-P", "-m", "strata.app.cli", "train", str(tiny_bert), "out", *options]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            until(lambda: (tmp_path / "out.work" / LOG).exists() and len(children(running.pid)) == 2, 60)
            left = children(running.pid)
            time.sleep(0.3)  # in which they make more steps than are taken
        finally:
            running.kill()
    until(lambda: not [pid for pid in left if Path(f"/proc/{pid}").exists()], 15)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_half_precision_blocks_learn_the_same(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource
) -> None:
    ends = []
    for precision in ("fp32", "bf16"):
        recipe = RECIPE.model_copy(update={"precision": precision, "bank": 0, "ridge_texts": 0})
        trainer(tiny_bert, tmp_path / precision, recipe, lines, pairs).train(progress_bar=False)
        losses = [json.loads(line)["loss"] for line in (tmp_path / precision / LOG).read_text().splitlines()]
        ends.append(sum(losses[-6:]) / sum(losses[:6]))
    assert ends[1] == pytest.approx(ends[0], abs=0.1)


def test_a_loss_that_is_no_number_ends_the_run(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = trainer(tiny_bert, tmp_path, RECIPE, lines, pairs)
    assert broken.student.heads is not None
    broken.student.heads.bias.data[0, 0] = torch.nan
    monkeypatch.setattr(broken, "_fit_heads", lambda heads: None)
    with pytest.raises(ValueError, match="loss of step 10 is nan"):
        broken.train(progress_bar=False)


def test_a_step_launches_few_kernels(
    tmp_path: Path, lines: LineSource, pairs: GroupSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_sentence_model(tmp_path / "bert", "bert", layers=12)
    recipe = RECIPE.model_copy(update={"precision": "bf16", "exits": tuple(range(13)), "dims": (4, 8, 16, 24)})
    deep = trainer(base, tmp_path / "run", recipe, lines, pairs)
    deep.steps = Steps(deep.draws, deep.student.model.tokenizer, Layout(True, True, lanes=1, lane_tokens=768))
    for muon in deep.optimizer.muons:
        muon.stacked = True
    monkeypatch.setattr(attention, "has_varlen", lambda *_: True)  # a GPU's one kernel stands in for row by row
    monkeypatch.setattr(varlen, "varlen_attn", lambda query, key, value, *_: query * key * value)
    assert 500 < count_launches(deep) <= 3000


def test_another_recipe_or_other_data_does_not_resume(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource
) -> None:
    short = RECIPE.model_copy(update={"steps": 1})
    trainer(tiny_bert, tmp_path, short, lines, pairs).train(progress_bar=False)
    assert (tmp_path / CHECKPOINT).exists()
    changed = trainer(tiny_bert, tmp_path, short.model_copy(update={"learning_rate": 1e-4}), lines, pairs)
    with pytest.raises(CheckpointError, match="learning_rate"):
        changed.train(progress_bar=False)
    fewer = trainer(tiny_bert, tmp_path, short, LineSource("lines", lines.lines[:30]), pairs)
    with pytest.raises(CheckpointError, match="other data"):
        fewer.train(progress_bar=False)
    other_base = tiny_sentence_model(tmp_path / "other", "bert", layers=3, seed=7)
    with pytest.raises(CheckpointError, match="another base"):
        trainer(other_base, tmp_path, short, lines, pairs).train(progress_bar=False)
    longer = short.model_copy(update={"steps": 2})
    more = trainer(tiny_bert, tmp_path, longer, lines, pairs)
    more.train(progress_bar=False)
    assert more.position.step == 2


def test_a_checkpoint_that_was_cut_off_is_told(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource
) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"PK\x03\x04 and then the disk was full")
    with pytest.raises(CheckpointError, match="remove it to begin anew"):
        trainer(tiny_bert, tmp_path, RECIPE, lines, pairs).train(progress_bar=False)


def test_a_teacher_that_reads_other_tokens_is_refused(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource
) -> None:
    other = tiny_sentence_model(tmp_path / "other", "bert", layers=3)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    word, another = list(vocabulary)[-2:]
    vocabulary[word], vocabulary[another] = vocabulary[another], vocabulary[word]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="another vocabulary"):
        Trainer(RECIPE, str(tiny_bert), tmp_path, [lines], [pairs], teacher=str(other))


def test_a_teacher_that_reads_shorter_texts_or_has_another_padding_is_refused(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource
) -> None:
    short = tiny_sentence_model(tmp_path / "short", "bert", layers=3, max_position_embeddings=24)
    with pytest.raises(ValueError, match=r"--max-tokens 40: the teacher .*short has 24 positions"):
        Trainer(RECIPE, str(tiny_bert), tmp_path, [lines], [pairs], teacher=str(short))
    other = tiny_sentence_model(tmp_path / "other", "roberta", layers=1, pad_token_id=0)
    with pytest.raises(ValueError, match=r"other: config.json's pad_token_id is 0, the tokenizer pads with id 1"):
        Student(load_model(str(other), torch.device("cpu")))


def test_what_no_lane_takes_has_all_their_cores() -> None:
    before = torch.get_num_threads()
    lanes = Lanes(3, torch.device("cpu"), "fp32")
    with lanes.together():
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 1
    lanes.close()
    assert torch.get_num_threads() == before


def test_lanes_change_nothing_but_rounding(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource
) -> None:
    # The first step only: Adam turns rounding into whole steps wherever a gradient is nearly zero.
    recipe = RECIPE.model_copy(update={"steps": 1})
    for lanes in (1, 2):
        trainer(tiny_bert, tmp_path / str(lanes), recipe, lines, pairs, lanes).train(progress_bar=False)
    one, two = (json.loads((tmp_path / str(lanes) / LOG).read_text()) for lanes in (1, 2))
    assert one["loss"] == pytest.approx(two["loss"], abs=2e-5)
    assert one["norm"] == pytest.approx(two["norm"], rel=1e-3)


def test_quicker_attention_learns_what_plain_attention_learns(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE.model_copy(update={"steps": 6})
    trainer(tiny_bert, tmp_path / "quick", recipe, lines, pairs).train(progress_bar=False)

    def row_by_row(query: Tensor, key: Tensor, value: Tensor, rows: Sequence[int], heads: int) -> Tensor:
        by_head = [part.unflatten(1, (heads, -1)).transpose(0, 1) for part in (query, key, value)]
        each = zip(*(torch.split(part, list(rows), dim=1) for part in by_head), strict=True)
        return torch.cat([scaled_dot_product_attention(*row) for row in each], dim=1).transpose(0, 1).flatten(1)

    monkeypatch.setattr(attention, "bin_rows", lambda lengths, *_: lengths)
    monkeypatch.setattr(attention, "Binned", tuple)
    monkeypatch.setattr(attention, "binned_attention", row_by_row)
    trainer(tiny_bert, tmp_path / "plain", recipe, lines, pairs).train(progress_bar=False)
    quick, plain = (
        [json.loads(line)["loss"] for line in (tmp_path / name / LOG).read_text().splitlines()]
        for name in ("quick", "plain")
    )
    assert quick == pytest.approx(plain, abs=1e-3)
    assert len(set(quick)) == recipe.steps


def test_time_ends_a_run_whose_steps_are_not_done() -> None:
    assert progress(step=10, steps=100, seconds=30, minutes=None) == 0.1
    assert progress(step=10, steps=100, seconds=30, minutes=1) == 0.5
    assert progress(step=10, steps=100, seconds=61, minutes=1) == 1.0


def test_minutes_alone_set_no_limit_to_the_steps(
    tiny_bert: Path, tmp_path: Path, lines: LineSource, pairs: GroupSource
) -> None:
    assert Recipe().most_steps == 1500
    recipe = RECIPE.model_copy(update={"steps": None, "minutes": 0.01})
    assert recipe.most_steps > 1_000_000
    timed = trainer(tiny_bert, tmp_path, recipe, lines, pairs)
    timed.train(progress_bar=False)
    assert 0 < timed.position.step < 1000
    assert timed.position.seconds >= 0.6


def test_rate_rises_then_falls_to_nothing() -> None:
    rates = [rate(done / 100, warmup=0.05) for done in range(101)]
    assert max(rates) == rates[5] == 1.0
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains(family: TinyFamily, tmp_path: Path, lines: LineSource, pairs: GroupSource) -> None:
    base = tiny_sentence_model(tmp_path / family, family, layers=3)
    exit_norm = "final" if family == "modernbert" else "none"
    recipe = RECIPE.model_copy(update={"steps": 2, "exits": (0, 1, 3), "exit_norm": exit_norm})
    student = trainer(base, tmp_path / "run", recipe, lines, pairs).train(progress_bar=False)
    assert all(torch.isfinite(tensor).all() for tensor in student.state_dict().values())


def test_exit_norm_needs_a_final_norm(tiny_bert: Path) -> None:
    with pytest.raises(ValueError, match="pre-norm"):
        Student(load_model(str(tiny_bert), torch.device("cpu")), exit_norm="final")


def test_raw_and_normed_exits_of_a_pre_norm_encoder_differ_but_at_the_last(tmp_path: Path) -> None:
    base = tiny_sentence_model(tmp_path / "modernbert", "modernbert", layers=3)
    model = load_model(str(base), torch.device("cpu"))
    packed = pack([[2, 9, 14, 20, 3]], bins=1, width=8, pad_id=0)
    with torch.no_grad():
        raw, normed = (Student(model, exit_norm=norm)(packed) for norm in ("none", "final"))
    assert torch.equal(raw[-1], normed[-1])
    assert torch.equal(raw[0], normed[0]), "the embedding layer has a norm of its own"
    assert not torch.allclose(raw[1], normed[1], atol=1e-3)
