"""The queue: ordered by due time, counted in texts and tokens."""

from __future__ import annotations

import asyncio
from math import inf
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from strata.app.scheduling.curves import Curves
from strata.app.scheduling.learnt import Flow
from strata.app.scheduling.queue import DeadlineQueue
from strata.app.scheduling.ticket import Admitted
from tests.scheduling.callers import terms


def request(due: float, lengths: list[int], deadline: float = 0.0, flow: Flow = ("default", "")) -> Admitted:
    loop = asyncio.new_event_loop()
    deadline = deadline or due
    made = Admitted(loop.create_future(), terms(), flow, True, 0.0, due, deadline, 0.0, True, (None,) * 8)
    loop.close()
    made.fill([np.zeros(n, np.int32) for n in lengths])
    return made


def by_fours(first: Admitted, last: float | None) -> float:
    """Four texts are due at a time, a second later than those before."""
    first.portion, first.pace_s = min(4, len(first.waiting)), 0.25
    return (last or 0.0) + 1.0


requests = st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(1, 50), min_size=1, max_size=5)), max_size=30)


@given(requests, st.randoms(use_true_random=False))
def test_order_and_counts_hold_under_any_sequence(made: list[tuple[int, list[int]]], random: Random) -> None:
    queue = DeadlineQueue(Curves(12), by_fours)
    waiting: list[Admitted] = []
    for due, lengths in made:
        one = request(float(due), lengths)
        queue.add(one)
        waiting.append(one)
        if len(waiting) % 3 == 0:
            gone = waiting.pop(random.randrange(len(waiting)))
            assert queue.remove(gone)
            assert not queue.remove(gone), "it cannot be taken out twice"
        if len(waiting) % 4 == 0 and waiting:
            head = queue.requests[0]
            taken = queue.take([(head, 1, 6)])
            assert [ticket.request for ticket in taken] == [head]
            assert head.exits == (6,), "the rest of a request runs at the depth of its first text"
            if len(waiting) % 8 == 0:
                queue.put_back(taken)
            if not head.waiting:
                waiting.remove(head)
        assert [r.due for r in queue.requests] == sorted(r.due for r in waiting)
        assert queue.texts == sum(len(r.waiting) for r in waiting)
        assert queue.tokens == sum(len(t.tokens) for r in waiting for t in r.waiting)
        assert sum(queue.flows.values()) == queue.texts
        if random.random() < 0.5:
            columns = queue.columns({})
            assert columns.dues.tolist() == [r.due for r in queue.requests]
            assert columns.tokens.tolist() == [r.waiting_tokens for r in queue.requests]
        assert queue.due_by(2.0) == (
            sum(len(r.waiting) for r in queue.requests if r.due <= 2.0),
            sum(r.waiting_tokens for r in queue.requests if r.due <= 2.0),
        )


def test_of_a_line_without_a_deadline_the_queue_counts_what_is_due() -> None:
    queue = DeadlineQueue(Curves(12), by_fours)
    first, second, other = request(inf, [10] * 20, inf), request(inf, [10] * 6, inf), request(0.5, [7])
    for one in (first, second, other):
        queue.add(one)
    assert queue.requests == [other, first, second]
    assert (first.due, queue.texts, queue.tokens) == (1.0, 27, 267)
    assert [queue.due_by(time) for time in (0.9, 1.0, 3.0, 99.0)] == [(1, 7), (5, 47), (13, 127), (27, 267)]
    columns = queue.columns({})
    assert (columns.texts.tolist(), columns.tokens.tolist()) == ([1, 4, 6], [7, 40, 60])
    assert [columns.due_by(time)[1] for time in (1.0, 3.0, 99.0)] == [0, 8, 22], "the second request's are among these"

    taken = queue.take([(first, 4, 12)])
    assert (first.due, queue.requests) == (2.0, [other, first, second])
    queue.put_back(taken)
    assert (first.due, len(first.waiting)) == (2.0, 20)
    queue.take([(first, 20, 12)])
    assert queue.requests == [other, second]
    assert second.due == 3.0, "it is the first of the line now"
    assert queue.due_by(99.0) == (7, 67)
    assert queue.remove(second)
    assert not queue.remove(second)
    assert queue.due_by(99.0) == (1, 7)


def test_each_flow_has_a_line_of_its_own() -> None:
    queue = DeadlineQueue(Curves(12), by_fours)
    mine = [request(inf, [10], inf, ("default", "me")) for _ in range(3)]
    yours = request(inf, [10], inf, ("default", "you"))
    for one in (*mine, yours):
        queue.add(one)
    assert queue.requests == [mine[0], yours, mine[1], mine[2]]
    queue.take([(mine[0], 1, 12)])
    assert queue.requests == [yours, mine[1], mine[2]]
    assert mine[1].due == 2.0
    assert queue.drain() == [yours, mine[1], mine[2]]
    again = request(inf, [10], inf, ("default", "me"))
    queue.add(again)
    assert again.due == 1.0, "a line that was empty begins anew"


@given(requests, st.randoms(use_true_random=False))
def test_lines_hold_under_any_sequence(made: list[tuple[int, list[int]]], random: Random) -> None:
    queue = DeadlineQueue(Curves(12), by_fours)
    waiting: list[Admitted] = []
    for caller, lengths in made:
        one = request(inf, lengths, inf, ("default", str(caller % 3)))
        queue.add(one)
        waiting.append(one)
        for _ in range(random.randrange(3)):
            if not queue:
                break
            chosen = [(r, random.randrange(1, len(r.waiting) + 1), 6) for r in queue.requests[: random.randrange(1, 4)]]
            taken = queue.take(chosen)
            back = [ticket for ticket in taken if random.random() < 0.3]
            queue.put_back(back)
            for ticket in back:
                if random.random() < 0.5:
                    queue.withdraw(ticket)
        if queue and random.random() < 0.2:
            queue.remove(random.choice(queue.requests))
        assert [r.due for r in queue.requests] == sorted(r.due for r in queue.requests)
        assert queue.texts == sum(len(r.waiting) for r in queue.requests)
        assert sum(queue.flows.values()) == queue.texts
        assert queue.due_by(1e11)[0] == queue.texts, "all of each line is due some time, once"
        assert sum(r.due < 1e9 for r in queue.requests) >= len(queue.flows), "each line has one that is due"


def test_equal_deadlines_are_served_in_order_of_arrival() -> None:
    queue = DeadlineQueue(Curves(12), by_fours)
    made = [request(1.0, [4]) for _ in range(5)]
    for one in made:
        queue.add(one)
    assert queue.requests == made
