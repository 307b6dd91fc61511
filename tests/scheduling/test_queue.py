"""The queue: ordered by due time, counted in texts and tokens."""

from __future__ import annotations

import asyncio
from math import inf
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from strata.app.scheduling.curves import Curves
from strata.app.scheduling.queue import DeadlineQueue
from strata.app.scheduling.ticket import Admitted
from tests.scheduling.callers import terms


def request(due: float, lengths: list[int], portion: int = 1 << 30, pace_s: float = 0.0) -> Admitted:
    loop = asyncio.new_event_loop()
    made = Admitted(loop.create_future(), terms(), ("default", ""), True, 0.0, due, inf, 0.0, True, (None,) * 8)
    loop.close()
    made.portion, made.pace_s = portion, pace_s
    made.fill([np.zeros(n, np.int32) for n in lengths])
    return made


requests = st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(1, 50), min_size=1, max_size=5)), max_size=30)


@given(requests, st.randoms(use_true_random=False))
def test_order_and_counts_hold_under_any_sequence(made: list[tuple[int, list[int]]], random: Random) -> None:
    queue = DeadlineQueue(Curves(12))
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


def test_of_a_request_that_is_due_portion_by_portion_the_queue_counts_what_is_due() -> None:
    queue = DeadlineQueue(Curves(12))
    paced, other = request(10.0, [10] * 20, portion=4, pace_s=0.5), request(1.5, [7])
    queue.add(paced)
    queue.add(other)
    assert paced.due == 2.0
    assert [queue.requests, (queue.texts, queue.tokens)] == [[other, paced], (21, 207)]
    assert [queue.due_by(time) for time in (1.9, 2.0, 3.0, 99.0)] == [(1, 7), (5, 47), (7, 67), (21, 207)]
    columns = queue.columns({})
    assert (columns.texts.tolist(), columns.tokens.tolist()) == ([1, 4], [7, 40])
    assert [columns.due_by(time)[1] for time in (2.0, 3.0, 99.0)] == [0, 2, 16]

    taken = queue.take([(paced, 3, 12)])
    assert (paced.due, queue.requests) == (3.5, [other, paced]), "the next are due later"
    queue.put_back(taken)
    assert paced.due == 2.0
    queue.take([(paced, 18, 12)])
    assert (paced.due, queue.due_by(99.0)) == (10.0, (3, 27))


def test_equal_deadlines_are_served_in_order_of_arrival() -> None:
    queue = DeadlineQueue(Curves(12))
    made = [request(1.0, [4]) for _ in range(5)]
    for one in made:
        queue.add(one)
    assert queue.requests == made
