"""Requests go out at their time, and a server that stalls shows it in every one that was due meanwhile."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from strata.loadtest.connection import Address
from strata.loadtest.generator import Order, generate
from strata.loadtest.mix import Sender
from strata.loadtest.open_loop import OpenRun, run_open
from strata.loadtest.outcomes import Requests
from strata.loadtest.schedule import Schedule
from strata.loadtest.slo_figures import generator_figures
from tests.loadtest.test_closed_loop import ok, with_server

SENDER = Sender("only", 1.0, 0.25, "key")


def told(run: OpenRun, due: list[float]) -> Requests:
    times = np.array(due)
    schedule = Schedule(2.0, times, np.zeros(len(due), dtype=int), np.zeros(len(due), dtype=int))
    return Requests.of(schedule, run.trips, [SENDER])


def sent(address: Address, count: int) -> list[bytes]:
    return [address.post("/embed", {"inputs": i}) for i in range(count)]


def test_a_stall_is_in_the_latency_of_everything_due_meanwhile() -> None:
    due = [i * 0.01 for i in range(100)]
    stalled_until = 0.0
    first = True

    async def answer(body: bytes) -> bytes:
        nonlocal stalled_until, first
        if first:
            first, stalled_until = False, time.perf_counter() + 0.6
        await asyncio.sleep(max(0.0, stalled_until - time.perf_counter()))
        return ok(b"[]")

    async def use(address: Address) -> OpenRun:
        return await run_open(address, sent(address, 100), due, connections=2, patience_s=5)

    run = with_server(answer, use)
    requests = told(run, due)
    assert (requests.status == 200).all()
    # A closed loop would have sent two requests in that time, and seen two slow answers.
    for moment, latency in zip(due, requests.latency, strict=True):
        assert latency >= 0.6 - moment
    assert (requests.latency > 0.25).sum() >= 35
    assert run.opened > 0  # nothing waited for a connection


def test_a_request_is_never_early_and_the_generators_own_lag_is_told() -> None:
    due = [i * 0.01 for i in range(60)]

    async def answer(body: bytes) -> bytes:
        if body == b'{"inputs": 20}':
            time.sleep(0.2)  # the client's own loop, for once
        return ok(b"[]")

    async def use(address: Address) -> OpenRun:
        return await run_open(address, sent(address, 60), due, connections=4, patience_s=5)

    requests = told(with_server(answer, use), due)
    assert (requests.lag >= 0).all()
    assert requests.lag.max() > 0.15
    assert (requests.latency >= requests.lag).all()  # it counts from when the request was due
    figures = {
        figure.name.strip(): figure
        for figure in generator_figures([requests], {"generator": 1, "server": 2, "wall": 4}, 3)
    }
    lag = figures["the generator's own lag, p99"]
    assert lag.value > 150
    assert lag.at_most == 12.5  # of a deadline of 250 ms
    assert lag.met is False
    assert figures["its CPU, share of the server's"].value == 0.5
    assert figures["its CPU, share of one core"].value == 0.25


def test_what_is_never_answered_is_counted_and_ends_the_run() -> None:
    async def answer(body: bytes) -> bytes:
        await asyncio.sleep(0 if body == b'{"inputs": 0}' else 3600)
        return ok(b"[]")

    async def use(address: Address) -> OpenRun:
        return await run_open(address, sent(address, 3), [0.0, 0.01, 0.02], connections=3, patience_s=0.2)

    run = with_server(answer, use)
    assert [trip.status for trip in run.trips] == [200, 0, 0]
    assert run.trips[1].answered is None


def test_refusals_and_headers_are_kept() -> None:
    async def answer(body: bytes) -> bytes:
        if body == b'{"inputs": 1}':
            return ok(b"come back later").replace(b"200 OK", b"503 Service Unavailable")
        return ok(b"[]").replace(
            b"\r\n\r\n", b"\r\nX-Strata-Layers: 9\r\nX-Strata-Quality: 0.95\r\nX-Strata-Tier: a\r\n\r\n"
        )

    async def use(address: Address) -> OpenRun:
        return await run_open(address, sent(address, 2), [0.0, 0.0], connections=2, patience_s=5)

    run = with_server(answer, use)
    assert (run.trips[0].layers, run.trips[0].quality, run.trips[0].tier) == (9, 0.95, "a")
    assert run.trips[1].status == 503
    assert run.problems == {503: "come back later"}


def test_the_generator_is_a_process_of_its_own() -> None:
    seen: list[bytes] = []

    async def answer(body: bytes) -> bytes:
        seen.append(body)
        return ok(b"[]")

    async def use(address: Address) -> OpenRun:
        ways = [("/embed?layers=1", {"authorization": "Bearer a"}, 1), ("/embed", {}, 3)]
        return await generate(Order(address, ways, ["one", "café"], [0.0, 0.1, 0.2], [0, 1, 0], [0, 1, 1], 1.0, 5.0))

    run = with_server(answer, use)
    assert [body.decode() for body in seen] == [
        '{"inputs": "one"}',
        '{"inputs": ["café", "one", "café"]}',
        '{"inputs": "café"}',
    ]
    assert [trip.status for trip in run.trips] == [200] * 3
    assert [round(trip.sent, 1) for trip in run.trips] == pytest.approx([0.0, 0.1, 0.2], abs=0.1)
    assert 0 < run.cpu_s < run.took_s
