"""What a request tells of its time: what it waited and what the engine took, which together are all of it."""

from __future__ import annotations

import asyncio
from math import inf

import numpy as np
import pytest

from strata.app.scheduling.ticket import Admitted, Ticket
from tests.scheduling.callers import terms


def run(request: Admitted, taken: list[Ticket], now: float) -> bool:
    return request.settle(taken, [np.zeros(4, np.float32)] * len(taken), [12] * len(taken), now)


@pytest.mark.parametrize(
    ("batches", "queue_s", "inference_s"),
    [
        ([(1.0, 3.0)], 1.0, 2.0),
        ([(1.0, 3.0), (3.0, 4.0)], 1.0, 3.0),
        ([(1.0, 3.0), (1.5, 5.0)], 1.0, 4.0),
        ([(1.0, 2.0), (4.0, 5.0)], 3.0, 2.0),
    ],
    ids=["one batch", "one after the other", "on two workers", "with others between"],
)
def test_time_in_the_queue_and_with_the_engine_make_the_whole(
    batches: list[tuple[float, float]], queue_s: float, inference_s: float
) -> None:
    loop = asyncio.new_event_loop()
    answer = loop.create_future()
    request = Admitted(answer, terms(), ("default", ""), True, 0.0, inf, inf, 0.0, True, (None,) * 8)
    request.fill([np.zeros(5, np.int32)] * len(batches))
    taken = {end: request.take(1) for _, end in batches}
    for at, begins in sorted([(begin, True) for begin, _ in batches] + [(end, False) for _, end in batches]):
        if begins:
            request.sent(at)
        else:
            request.returned(at)
            run(request, taken[at], at)
    loop.close()
    told = answer.result()
    assert (told.queue_s, told.inference_s) == (queue_s, inference_s)
    assert told.queue_s + told.inference_s == max(end for _, end in batches)


def test_an_answer_while_another_worker_still_runs_a_text_of_it_tells_the_time_until_then() -> None:
    loop = asyncio.new_event_loop()
    answer = loop.create_future()
    request = Admitted(answer, terms(), ("default", ""), True, 0.0, inf, inf, 0.0, True, (None,) * 8)
    request.fill([np.zeros(5, np.int32)])
    taken = request.take(1)
    request.sent(1.0)
    request.sent(3.0)  # it was overdue
    request.returned(4.0)
    assert run(request, taken, 4.0)
    request.returned(9.0)
    loop.close()
    assert (answer.result().queue_s, answer.result().inference_s) == (1.0, 3.0)
