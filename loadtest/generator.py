"""The open loop in a process of its own: nothing else that this command does can make a request late.

It reads one JSON object from its input and writes one to its output; `generate` is the other end.
"""

from __future__ import annotations

import asyncio
import json
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from strata.app.safe_path import module_command
from strata.loadtest.connection import Address, LoadError
from strata.loadtest.open_loop import OpenRun, Trip, run_open

# A connection that has to be opened in a burst waits for a server that is busy with it: the load would not be open.
_MOST_CONNECTIONS = 4096
_IDLE_S = 45.0  # Strata hangs up after a minute (--client-seconds)


@dataclass(slots=True, frozen=True)
class Order:
    """What to send: request ``i`` is text ``text[i]`` and those after it, as ``ways[way[i]]`` says, at ``due[i]`` s."""

    address: Address
    ways: Sequence[tuple[str, dict[str, str], int]]  # path, headers, and how many texts
    corpus: Sequence[str]
    due: Sequence[float]
    way: Sequence[int]
    text: Sequence[int]
    deadline_s: float  # the longest
    patience_s: float  # after the last request, and its deadline

    def requests(self) -> list[bytes]:
        """Ready to be written."""
        return [self._request(*self.ways[way], text) for way, text in zip(self.way, self.text, strict=True)]

    def _request(self, path: str, headers: dict[str, str], count: int, first: int) -> bytes:
        texts = [self.corpus[(first + i) % len(self.corpus)] for i in range(count)]
        return self.address.post(path, {"inputs": texts if count > 1 else texts[0]}, headers)

    @property
    def connections(self) -> int:
        """As many as requests may be under way at once, if each is over by the longest deadline."""
        most = max((at - bisect_left(self.due, due - self.deadline_s) for at, due in enumerate(self.due)), default=0)
        return min(most + 1, _MOST_CONNECTIONS)


async def generate(order: Order) -> OpenRun:
    """Send all of it from a new process. Raises LoadError when that fails; cancelling ends the process."""
    process = await asyncio.create_subprocess_exec(
        *module_command("strata.loadtest.generator"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # an interrupt at the terminal is ours to pass on
    )
    try:
        output, errors = await process.communicate(json.dumps(asdict(order)).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise LoadError(f"the load generator failed: {errors.decode(errors='replace')[-1000:]}")
    result: dict[str, Any] = json.loads(output)
    trips = [Trip(*columns) for columns in result.pop("trips")]
    problems = {int(status): text for status, text in result.pop("problems").items()}
    return OpenRun(trips, problems=problems, **result)


def main() -> None:
    """The process: an order in, what came of it out."""
    given = json.load(sys.stdin)
    order = Order(**{**given, "address": Address(**given["address"])})
    run = asyncio.run(
        run_open(
            order.address,
            order.requests(),
            order.due,
            connections=order.connections,
            patience_s=order.deadline_s + order.patience_s,
            idle_s=_IDLE_S,
        )
    )
    json.dump({**asdict(run), "trips": [list(asdict(trip).values()) for trip in run.trips]}, sys.stdout)


if __name__ == "__main__":
    main()
