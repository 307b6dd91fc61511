"""The peers that are libraries: sentence-transformers in bfloat16 on torch, and on OpenVINO in bfloat16 and in int8.

They run in processes of their own, by a Python of their own, and are told by lines of JSON what to encode.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from strata.loadtest.connection import LoadError

VERSION = "6.2.0"
# torch's own peer torchvision comes along with optimum-intel and does not import beside torch's build for CPUs.
PINS = (
    "torch==2.13.0",
    f"sentence-transformers=={VERSION}",
    "transformers==5.5.4",
    "optimum-intel==2.2.0",
    "openvino==2026.4.1",
    "nncf==3.4.0",
)
_UNWANTED = "torchvision"
_SCRIPT = Path(__file__).with_name("library_encoder.py")
_READY_S = 900.0  # OpenVINO's int8 calibrates on hundreds of texts the first time
_LINE = 1 << 28  # bytes of an answer at most


@dataclass(slots=True, frozen=True)
class Setting:
    """What runs, in how many processes of how many threads, and how many texts it pads together."""

    kind: str  # "torch", "openvino" or "openvino-int8"
    processes: int
    threads: int
    batch_size: int = 32

    def __str__(self) -> str:
        return f"{self.kind}, {self.processes} x {self.threads} threads, batch {self.batch_size}"


def settings(kind: str, cores: int) -> list[Setting]:
    """Worth trying for many texts: every core for each batch, or a process per core."""
    return [Setting(kind, 1, cores)] + [Setting(kind, cores, 1)] * (cores > 1)


def install(folder: Path, python: str = sys.executable) -> Path:
    """The Python of a virtual environment in ``folder``, made unless it is there with these very pins.

    pip takes its index from the machine's own configuration. Raises CalledProcessError when it fails.
    """
    done, pins = folder / "strata-pins.txt", "\n".join(PINS)
    program = folder / "bin" / "python"
    if not done.is_file() or done.read_text(encoding="utf-8") != pins:
        subprocess.run([python, "-P", "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(program), "-P", "-m", "pip", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *PINS], check=True)
        subprocess.run([*pip, "uninstall", "-y", _UNWANTED], check=True)
        done.write_text(pins, encoding="utf-8")
    return program


@dataclass(slots=True, frozen=True)
class Place:
    """Where the libraries are, and what they load."""

    program: Path  # the Python of their environment
    model: Path  # a sentence-transformers folder

    @property
    def calibration(self) -> Path:
        """Texts for int8, one a line."""
        return self.program.parent.parent / "calibration.txt"


class Library:
    """Some processes of one setting, loaded, that share what they are given to encode."""

    def __init__(self, place: Place, setting: Setting) -> None:
        told = {"kind": setting.kind, "model": str(place.model), "threads": setting.threads}
        told |= {"texts": str(place.calibration), "kept": str(place.program.parent.parent / "models")}
        self.setting = setting
        self._command = [str(place.program), "-P", str(_SCRIPT), json.dumps(told)]
        self._processes: list[asyncio.subprocess.Process] = []
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the processes

    async def __aenter__(self) -> Self:
        """Start, one after another, so that what the first exports the others read. Raises LoadError."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.setting.threads))
        quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
        try:
            for _ in range(self.setting.processes):
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=self._log,
                    env={**os.environ, **threads, **quiet},
                    limit=_LINE,
                )
                self._processes.append(process)
                await asyncio.wait_for(self._answer(process), _READY_S)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop them."""
        await self._stop()

    async def seconds(self, texts: Sequence[str]) -> float:
        """To encode these texts, every process its share at the same time: of the slowest."""
        count = len(self._processes)
        told = await asyncio.gather(
            *(
                self._ask(process, texts=list(texts[i::count]), batch=self.setting.batch_size)
                for i, process in enumerate(self._processes)
            )
        )
        return max(float(answer["seconds"]) for answer in told)

    async def singles(self, texts: Sequence[str]) -> list[float]:
        """Seconds of each text by itself, in the first process."""
        answer = await self._ask(self._processes[0], texts=list(texts), batch=1, alone=True)
        return [float(seconds) for seconds in answer["each"]]

    async def vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Unit vectors of the texts, [texts, dim]."""
        answer = await self._ask(self._processes[0], texts=list(texts), batch=self.setting.batch_size, vectors=True)
        raw = np.frombuffer(base64.b64decode(answer["vectors"]), np.float32).astype(np.float64)
        rows = raw.reshape(len(texts), -1)
        units: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return units

    async def _ask(self, process: asyncio.subprocess.Process, **command: Any) -> dict[str, Any]:
        assert process.stdin is not None
        process.stdin.write(json.dumps(command).encode() + b"\n")
        await process.stdin.drain()
        return await self._answer(process)

    async def _answer(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 2000))
            raise LoadError(f"{self.setting} ended:\n{self._log.read().decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        self._processes.clear()
        self._log.close()
