"""A flood of requests does not hold up the answers that are ready."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from functools import partial
from pathlib import Path
from time import perf_counter

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from strata.app.connections import BoundedProtocol, Connections
from strata.app.intake import Intake, came
from tests.conftest import ServerFactory


def test_so_many_begin_in_a_turn_and_in_their_order_and_waiting_counts() -> None:
    turn, begun = 0, []

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(next_turn)

    async def flood() -> None:
        next_turn()
        intake, loop = Intake(), asyncio.get_running_loop()
        scopes: list[Scope] = [{"path": "/embed", "number": n} for n in range(50)]
        for scope in [*scopes, {"path": "/health", "number": -1}]:
            intake.begin(loop, scope, lambda number=scope["number"]: begun.append((turn, number)))
        assert begun[-1] == (1, -1), "who asks for its health does not wait"
        sent = perf_counter()
        while len(begun) < 51:
            await asyncio.sleep(0)
        begun.remove((1, -1))
        assert [number for _, number in begun] == list(range(50))
        by_turn = Counter(turn for turn, _ in begun)
        assert max(by_turn.values()) == 8
        assert len(by_turn) == 7
        assert came(scopes[-1]) < sent < came(scopes[0]), "who had to wait came before now"

    asyncio.run(flood())


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
        loop, intake = asyncio.get_running_loop(), Intake()
        config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None)
        config.load()
        made = partial(BoundedProtocol, config=config, server_state=ServerState(), app_state={})
        server = await loop.create_server(partial(made, bounds=Connections(60, 100), intake=intake), "127.0.0.1", 0)
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


def test_three_hundred_at_once_are_all_answered(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--backend", "torch")
    host, port = server.url.removeprefix("http://").split(":")
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
