"""A flood of requests does not hold up the answers that are ready."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response as Answer
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from strata.app.api.ask import known_deadline_s
from strata.app.api.gateway import Gateway
from strata.app.callers.callers import Caller, Callers, everybody
from strata.app.callers.tier import Tier
from strata.app.connections.bounds import Connections
from strata.app.connections.intake import Intake, came, crowded
from strata.app.connections.ports import Ports
from strata.app.connections.protocol import BoundedProtocol
from strata.app.in_flight import InFlight
from strata.app.telemetry.metrics import Metrics
from strata.loadtest.connection import Address, Connection, Response
from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import connections_held


def asking(query: str = "", **headers: str) -> Scope:
    """The scope of a request to embed."""
    found = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"method": "POST", "path": "/embed", "query_string": query.encode(), "headers": found}


def test_so_many_begin_in_a_turn_and_in_their_order_and_waiting_counts() -> None:
    turn = 0
    begun: list[tuple[int, int]] = []

    def begin(number: int) -> None:
        begun.append((turn, number))

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(next_turn)

    async def flood() -> None:
        next_turn()
        intake, loop = Intake(everybody(), known_deadline_s), asyncio.get_running_loop()
        scopes = [{**asking(), "number": n} for n in range(50)]
        healths = [{"path": path, "number": -1} for path in ("/health", "/ready/", "/behind/a/proxy/health")]
        for scope in [*scopes, *healths]:
            intake.begin(loop, scope, partial(begin, scope["number"]))
        assert begun[-3:] == [(1, -1)] * 3, "who asks for its health does not wait"
        sent = perf_counter()
        while len(begun) < 53:
            await asyncio.sleep(0)
        del begun[8:11]
        assert [number for _, number in begun] == list(range(50))
        by_turn = Counter(turn for turn, _ in begun)
        assert max(by_turn.values()) == 8
        assert len(by_turn) == 7
        assert came(scopes[-1]) < sent < came(scopes[0]), "who had to wait came before now"

    asyncio.run(flood())


def test_each_tier_has_its_share_of_the_turns_and_each_key_of_its_tiers() -> None:
    """Two keys of a tier of share 1 send 300 requests each before one of share 4 sends 40."""
    keys = {sha256(name.encode()).digest(): rank for name, rank in (("large", 0), ("one", 1), ("two", 1))}
    callers = Callers([Tier("large", share=4), Tier("small", share=1)], keys, keyless=None)
    begun: list[str] = []

    async def flood() -> None:
        intake, loop = Intake(callers, known_deadline_s), asyncio.get_running_loop()
        for name, count in (("one", 300), ("two", 300), ("nobody", 300), ("large", 40)):
            for _ in range(count):
                intake.begin(loop, asking(authorization=f"Bearer {name}"), partial(begun.append, name))
        while len(begun) < 940:
            await asyncio.sleep(0)

    asyncio.run(flood())
    first = Counter(begun[8:68])  # the first eight found nobody waiting
    assert first["large"] == pytest.approx(40, abs=2)
    assert first["nobody"] == pytest.approx(10, abs=2)
    assert first["one"] == pytest.approx(first["two"], abs=1)


@pytest.mark.parametrize(
    ("query", "header", "tier_s", "refused"),
    [
        ("budget_ms=100", "", None, True),
        ("layers=6&budget_ms=100.5", "", None, True),
        ("", "100", None, True),
        ("", "", 0.1, True),
        ("budget_ms=5000", "", 0.1, False),
        ("tier=lower", "", 0.1, False),  # whose deadline is later
        ("tier=nothing", "", 0.1, True),
        ("budget_ms=soon", "", None, False),  # the endpoint says what is wrong with it
        ("", "", None, False),
    ],
)
def test_who_would_wait_too_long_to_begin_is_refused_at_once(
    query: str, header: str, tier_s: float | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr("strata.app.connections.intake.perf_counter", lambda: clock)

    async def come() -> bool:
        nonlocal clock
        callers = Callers([Tier("default", deadline_s=tier_s), Tier("lower", deadline_s=1.0)], {}, keyless=0)
        intake, loop = Intake(callers, known_deadline_s), asyncio.get_running_loop()
        for _ in range(30):
            intake.begin(loop, asking(), lambda: None)
        clock = 0.04  # so long takes a turn, in which eight begin: 14 go on waiting
        await asyncio.sleep(0)
        scope = asking(query, **({"x_strata_budget_ms": header} if header else {}))
        told = intake.begin(loop, scope, lambda: None)
        assert crowded(scope) == (told is not None)
        return told is not None

    assert asyncio.run(come()) is refused


def test_who_begins_in_a_long_flood_has_waited_a_part_of_its_time_and_as_many_begin_as_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thirty-six a turn of 3 ms, from three tiers: they grow long lines before the first of them has waited at all."""
    clock, tiers = 0.0, (Tier("quick", 0.25, share=3), Tier("usual", 1.0, share=2), Tier("slow", 5.0, share=1))
    monkeypatch.setattr("strata.app.connections.intake.perf_counter", lambda: clock)
    callers = Callers(tiers, {sha256(tier.name.encode()).digest(): rank for rank, tier in enumerate(tiers)}, None)
    waits: dict[str, list[float]] = {tier.name: [] for tier in tiers}

    def begins(name: str, came_at: float) -> None:
        waits[name].append(clock - came_at)

    async def flood() -> None:
        nonlocal clock
        intake, loop = Intake(callers, known_deadline_s), asyncio.get_running_loop()
        for turn in range(1500):
            for number in range(36):
                name = tiers[(turn + number) % 3].name
                intake.begin(loop, asking(authorization=f"Bearer {name}"), partial(begins, name, clock))
            clock += 0.003
            await asyncio.sleep(0)

    asyncio.run(flood())
    begun = sum(map(len, waits.values()))
    assert begun >= 8 * 1500 - 8, "no turn is given away"
    for tier in tiers:
        assert len(waits[tier.name]) / begun == pytest.approx(tier.share / 6, abs=0.02)
        assert max(waits[tier.name]) < 0.33 * (tier.deadline_s or 0)


def test_a_flood_on_real_connections_begins_so_many_a_turn() -> None:
    turn, begun = 0, []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(turn)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(next_turn)

    async def flood() -> None:
        loop, intake = asyncio.get_running_loop(), Intake(everybody(), known_deadline_s)
        config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None)
        config.load()
        made = partial(BoundedProtocol, config=config, server_state=ServerState(), app_state={})
        made = partial(made, bounds=Connections(60, 100), intake=intake, turn_away=lambda scope, caller: (503, [], b""))
        server = await loop.create_server(made, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(50)]
        await asyncio.sleep(0.2)  # all are accepted
        next_turn()
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while len(begun) < 50:
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        server.close()

    asyncio.run(flood())
    assert max(Counter(begun).values()) <= 8
    assert len(set(begun)) >= 7


def test_who_is_turned_away_keeps_its_connection_and_a_page_goes_the_whole_way() -> None:
    """Told before its body has come, of which the rest must not be taken for the next request."""
    begun: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    class Full(Intake):
        def begin(self, loop: asyncio.AbstractEventLoop, scope: Scope, start: Callable[[], None]) -> Caller | None:
            if scope["method"] == "POST":
                return everybody().caller([])
            start()
            return None

    async def talk() -> bytes:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None)
        config.load()
        made = partial(BoundedProtocol, config=config, server_state=ServerState(), app_state={})
        told = (503, [(b"content-length", b"5")], b"full\n")
        intake = Full(everybody(), known_deadline_s)
        made = partial(made, bounds=Connections(60, 100), intake=intake, turn_away=lambda scope, caller: told)
        server = await loop.create_server(made, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n0123456789")
        answer = await reader.readuntil(b"full\n")
        writer.write(b"0123456789GET /two HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write(b"POST /three HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nContent-Length: 0\r\n\r\n")
        writer.write(b"POST /four HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        answer += await reader.read()  # to the end: of a body that was not asked for nobody knows whether it comes
        writer.close()
        server.close()
        return answer

    answer = asyncio.run(talk())
    statuses = [line for line in answer.splitlines() if line.startswith(b"HTTP/1.1")]
    assert [int(line[9:12]) for line in statuses] == [503, 204, 204, 503]
    assert answer.endswith(b"connection: close\r\n\r\nfull\n")
    assert begun == ["/two", "/three"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/embeddings/", "/behind/v1/embeddings"])
def test_who_is_turned_away_is_told_in_its_protocol_wherever_the_server_is(path: str) -> None:
    async def endpoint(request: Request) -> Answer:
        return Answer()

    scope = {**asking(), "path": path, "root_path": "/behind"}
    direct = {("POST", "/v1/embeddings"): endpoint}
    gateway = Gateway(Answer(), direct, everybody(), InFlight(1, 1), Metrics(), Ports(), None)
    status, headers, body = gateway.turn_away(scope, everybody().caller([]))
    assert (status, dict(headers)[b"retry-after"]) == (503, b"1")
    assert "this server can read" in json.loads(body)["error"]["message"]


@pytest.fixture(scope="module")
def flooded(start_session_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    return start_session_server(tiny_bundle, "--backend", "torch")


def test_a_flood_of_new_clients_is_let_in_at_once(flooded: RunningServer) -> None:
    """Let in one a turn, or sent away by a short queue of the kernel, they would wait for seconds."""
    host, port = flooded.url.removeprefix("http://").split(":")
    with connections_held(1500), ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(1500)]
        began = perf_counter()
        for client in clients:
            client.setblocking(False)
            client.connect_ex((host, int(port)))
        for client in clients:
            client.settimeout(20)
            client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert all(client.recv(1000).startswith(b"HTTP/1.1 200") for client in clients)
        assert perf_counter() - began < 1


def test_three_hundred_at_once_are_all_answered(flooded: RunningServer) -> None:
    host, port = flooded.url.removeprefix("http://").split(":")
    request = b'POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n{"inputs":"river"}'
    with_two = request * 2  # the second is sent ahead of the first one's answer
    clients = [socket.create_connection((host, int(port)), timeout=20) for _ in range(300)]
    try:
        for number, client in enumerate(clients):
            client.sendall(with_two if number % 3 == 0 else request)
        for number, client in enumerate(clients):
            told = b""
            while told.count(b"HTTP/1.1 200") < (2 if number % 3 == 0 else 1):
                piece = client.recv(65536)
                assert piece, told
                told += piece
    finally:
        for client in clients:
            client.close()


def test_who_is_refused_at_the_door_is_told_why_and_counted(flooded: RunningServer) -> None:
    address = Address.parse(flooded.url)
    asks = iter([address.post("/embed?budget_ms=40", {"inputs": "river"})] * 3000)
    told: list[Response] = []

    async def client() -> None:
        connection = await Connection.open(address)
        for ask in asks:
            answer = await connection.send(ask)
            assert answer.status in (200, 503, 504)
            if answer.status == 503 and "this server can read" in answer.json()["error"]:
                told.append(answer)
        connection.close()

    async def flood() -> None:
        await asyncio.gather(*(client() for _ in range(400)))

    asyncio.run(flood())
    why = "more requests of this caller wait than this server can read in time"
    assert told[0].json() == {"error": why, "error_type": "Overloaded"}
    assert told[0].header("retry-after") == "1"
    assert len({answer.header("x-request-id") for answer in told}) == len(told)
    count = f'strata_tier_refused_total{{reason="intake",tier="default"}} {len(told)}.0'
    assert count in httpx.get(flooded.url + "/metrics").text
