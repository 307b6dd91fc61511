"""The objective: zero only where every exit says what the teacher says."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from strata.model_store.training.objective import Memory, objective
from strata.model_store.training.packing import pack
from strata.model_store.training.recipe import Recipe
from strata.model_store.training.ridge import fit_heads
from strata.model_store.training.student import ExitHeads

RECIPE = Recipe(bank=16)


def teacher_vectors(rows: int = 8) -> torch.Tensor:
    return normalize(torch.randn(rows, 12, generator=torch.Generator().manual_seed(0)), dim=-1)


DIMS = (4, 12)


def memory(vectors: torch.Tensor) -> Memory:
    kept = Memory.empty(12, 16, torch.device("cpu"))
    kept.add(vectors, 2.0 * vectors)
    return kept


def test_an_exit_equal_to_the_teacher_costs_nothing_at_full_length() -> None:
    teacher = teacher_vectors()
    loss, parts = objective(3.0 * teacher.repeat(2, 1, 1), teacher, memory(teacher_vectors(20)), (12,), RECIPE)
    assert float(loss) == pytest.approx(0, abs=1e-4)
    assert set(parts) == {"cosine", "centred", "own", "search"}


def test_cuts_are_held_to_the_ranking_of_full_length() -> None:
    teacher, kept = teacher_vectors(), memory(teacher_vectors(20))
    _, whole = objective(teacher.repeat(2, 1, 1), teacher, kept, (12,), RECIPE)
    _, both = objective(teacher.repeat(2, 1, 1), teacher, kept, DIMS, RECIPE)
    assert both["own"] > whole["own"] + 0.1
    assert both["search"] > whole["search"] + 0.1


def test_divergences_are_those_of_the_plain_formula() -> None:
    generator = torch.Generator().manual_seed(3)
    teacher, kept = teacher_vectors(), memory(teacher_vectors(20))
    vectors = torch.randn(3, 8, 12, generator=generator)
    recipe = RECIPE.model_copy(update={"temperature": 0.1, "last_exit": 1.0})
    _, parts = objective(vectors, teacher, kept, (4,), recipe)

    def shares(similarity: torch.Tensor) -> torch.Tensor:
        itself = torch.eye(8, similarity.shape[-1], dtype=torch.bool)
        return (similarity / 0.1).masked_fill(itself, -torch.inf).log_softmax(-1)

    cut = normalize(vectors[..., :4], dim=-1)
    index = normalize(torch.cat([vectors[-1], kept.deepest])[:, :4], dim=-1)
    for part, target, found in (
        ("own", shares(teacher @ teacher.T), shares(cut @ cut.transpose(1, 2))),
        ("search", shares(teacher @ torch.cat([teacher, kept.teacher]).T), shares(cut @ index.T)),
    ):
        terms = (target.exp() * (target - found)).nan_to_num(0)  # 0 * (-inf - -inf) of a text with itself
        assert float(parts[part]) == pytest.approx(float(terms.sum(-1).mean()), rel=1e-4)


def test_the_last_exit_weighs_more() -> None:
    teacher, wrong = teacher_vectors(), teacher_vectors().flip(0)
    kept = memory(teacher)
    first_wrong, _ = objective(torch.stack([wrong, teacher]), teacher, kept, (12,), RECIPE)
    last_wrong, _ = objective(torch.stack([teacher, wrong]), teacher, kept, (12,), RECIPE)
    assert last_wrong > 2 * first_wrong


def test_memory_keeps_the_latest_and_the_mean() -> None:
    kept = Memory.empty(12, 16, torch.device("cpu"))
    batches = [normalize(torch.randn(6, 12), dim=-1) for _ in range(4)]
    for batch in batches:
        kept.add(batch, 2.0 * batch)
    everything = torch.cat(batches)
    assert torch.equal(kept.teacher, everything[-16:])
    assert torch.equal(kept.deepest, 2.0 * everything[-16:])
    assert torch.allclose(kept.mean, everything.mean(0), atol=1e-6)


def test_a_memory_of_no_size_stays_empty() -> None:
    kept = Memory.empty(12, 0, torch.device("cpu"))
    kept.add(teacher_vectors(), teacher_vectors())
    assert kept.teacher.shape == kept.deepest.shape == (0, 12)


@pytest.mark.parametrize("queries", [0, 3])
def test_ridge_heads_recover_a_linear_map(queries: int) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = normalize(torch.randn(400, 12, generator=generator) + 1, dim=-1)
    hidden = teacher @ torch.randn(12, 12, generator=generator) + 0.5  # an exit that knows all, in other coordinates
    heads = ExitHeads(1, 12, queries)
    read = hidden.repeat(1, max(queries, 1))[None]
    before = torch.cosine_similarity(heads(read)[0], teacher).mean()
    fit_heads(heads, read, teacher)
    after = torch.cosine_similarity(heads(read)[0], teacher).mean()
    assert after > 0.97 > before


def test_a_query_that_prefers_nothing_pools_the_mean_and_other_rows_weigh_nothing() -> None:
    heads = ExitHeads(1, 12, queries=2)
    assert heads.queries is not None
    with torch.no_grad():
        heads.queries[0, 0] = 0
    packed = pack([[5, 6], [7], [1, 2, 3, 4]], bins=2, width=5, pad_id=0)  # [1 2 3 4 -], [5 6 7 - -]
    states = torch.randn(1, 2, 5, 12)
    pooled = heads.attend(states, packed)[0]
    assert torch.allclose(pooled[0, :12], states[0, 0, :4].mean(0), atol=1e-6)
    assert torch.allclose(pooled[1, :12], states[0, 1, :2].mean(0), atol=1e-6)
    assert torch.allclose(pooled[2], states[0, 1, 2].repeat(2), atol=1e-6)
