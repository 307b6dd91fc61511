"""Workers that die or stand still while a load runs: what an operator's machine does sooner or later."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import psutil

from strata.loadtest.family import family
from strata.loadtest.meanwhile import meanwhile

_HOST = "strata.app.engine.host"
KILL_EVERY_S = 2.0
_STOP_AFTER_S, STOP_S = 5.0, 3.0


def workers(pid: int) -> list[psutil.Process]:
    """The engine workers of a server: forked by its host."""
    return [p for p in family(pid) if (parent := p.parent()) and _is_host(p) and _is_host(parent)]


def _is_host(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return _HOST in process.cmdline()
    return False


async def _kill(pid: int) -> None:
    """End one worker every two seconds."""
    number = 0
    while True:
        await asyncio.sleep(KILL_EVERY_S)
        living = workers(pid)
        if living:
            living[number % len(living)].send_signal(signal.SIGKILL)
            number += 1


async def _stop(pid: int) -> None:
    """Let one worker stand still for three seconds, once."""
    await asyncio.sleep(_STOP_AFTER_S)
    (one, *_) = workers(pid)
    one.send_signal(signal.SIGSTOP)
    await asyncio.sleep(STOP_S)
    with suppress(psutil.NoSuchProcess):  # it was held to hang, and replaced
        one.send_signal(signal.SIGCONT)


FAULTS: dict[str, Callable[[int], Coroutine[None, None, None]]] = {"kill": _kill, "stop": _stop}


@asynccontextmanager
async def faults(kind: str | None, pid: int | None) -> AsyncIterator[None]:
    """Disturb the server ``pid`` meanwhile, in one of the ways of `FAULTS`; None: do not."""
    if kind is None or pid is None:
        yield
        return
    async with meanwhile(FAULTS[kind](pid)):
        yield
