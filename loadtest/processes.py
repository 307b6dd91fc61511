"""Server processes: started on a free loopback port, waited for, measured, and stopped by their pid."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Self

from strata.app.safe_path import module_command
from strata.loadtest.connection import Address, LoadError, fetch

_STOP_PATIENCE_S = 20.0


def strata_serve(options: Sequence[str]) -> list[str]:
    """The command line of `strata serve`, of this very Python."""
    return module_command("strata.app.cli", "serve", *options)


class ServerProcess:
    """One server, from start to stop: an async context manager that yields when the server is ready."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        ready_path: str,
        patience_s: float = 120.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``command`` gets ``--host 127.0.0.1 --port N`` added; ready when ``ready_path`` answers 200."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = Address("127.0.0.1", port)
        self.ready_after_s = 0.0  # from the start of the process to its first 200
        self._command = [*command, "--host", "127.0.0.1", "--port", str(port)]
        self._environment = {**os.environ, **(environment or {})}
        self._ready_path = ready_path
        self._patience_s = patience_s
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process started; it may have children."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        """Start, and wait until ready. Raises LoadError with the end of the log when that fails."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        began = time.perf_counter()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,  # an interrupt at the terminal is ours to pass on
        )
        try:
            await self._wait_ready(began + self._patience_s)
        except BaseException:
            self._stop()
            raise
        self.ready_after_s = time.perf_counter() - began
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        await asyncio.to_thread(self._stop)

    def log_tail(self) -> str:
        """The last of what the server wrote."""
        assert self._log is not None
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 2000))
        return self._log.read().decode(errors="replace")

    async def _wait_ready(self, deadline: float) -> None:
        assert self._process is not None
        request = self.address.get(self._ready_path)
        while True:
            if self._process.poll() is not None:
                raise LoadError(f"{self._command[0]} ended with {self._process.returncode}:\n{self.log_tail()}")
            try:
                if (await fetch(self.address, request)).status == 200:
                    return
            except (OSError, LoadError):
                pass  # not listening yet
            if time.perf_counter() > deadline:
                raise LoadError(f"{self._command[0]} not ready in {self._patience_s:g} s:\n{self.log_tail()}")
            await asyncio.sleep(0.01)

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: nobody else's processes are in it
            process.wait()
