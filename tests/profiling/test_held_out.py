"""What training keeps out is decided by the query alone, and is never trained on."""

from __future__ import annotations

from strata.model_store.profiling.held_out import ONE_IN, is_held_out, split_held_out

ROWS = [(f"question {i}", f"answer {i % 300}") for i in range(400)]


def test_about_one_query_in_sixteen_is_kept_out_however_it_is_written() -> None:
    held = [query for query, _ in ROWS if is_held_out(query)]
    assert 0.5 < len(held) * ONE_IN / len(ROWS) < 1.7
    assert all(is_held_out(f"  {query.upper()}\n") for query in held)


def test_nothing_held_out_is_trained_on() -> None:
    kept, held = split_held_out(ROWS)
    assert held
    assert kept
    answers = {answer for _, answer in held}
    assert not any(is_held_out(query) or answer in answers for query, answer in kept)
    dropped = set(ROWS) - set(kept) - set(held)
    assert dropped, "another question with a held-out answer is neither trained on nor measured"
    assert all(answer in answers for _, answer in dropped)
