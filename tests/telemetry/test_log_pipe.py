"""Lines of the log leave together, once a turn of the event loop, and none is lost with the loop."""

from __future__ import annotations

import asyncio
import os

from strata.app.telemetry.log_pipe import LogPipe


def test_lines_of_one_turn_are_one_write() -> None:
    reader, writer = os.pipe()
    pipe = LogPipe(writer)

    async def turn() -> None:
        for number in range(3):
            assert pipe.write(f"{number}\n")
        os.set_blocking(reader, False)
        try:
            early = os.read(reader, 100)
        except BlockingIOError:
            early = b""
        assert not early, "a write for each line"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert os.read(reader, 100) == b"0\n1\n2\n"
        await asyncio.to_thread(pipe.write, "from a thread\n")
        assert os.read(reader, 100) == b"from a thread\n"
        pipe.write("as the loop ends\n")

    asyncio.run(turn())
    pipe.write("after it\n")
    pipe.finish()
    assert os.read(reader, 100) == b"as the loop ends\nafter it\n"
    os.close(reader)
    os.close(writer)


def test_what_nobody_reads_is_dropped_and_counted() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    pipe = LogPipe(writer)
    lines = [pipe.write("x" * 1023 + "\n") for _ in range(300)]
    assert not all(lines)
    assert pipe.dropped == lines.count(False)
    os.close(reader)
    os.close(writer)
