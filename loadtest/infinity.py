"""The peer Infinity: installed in a virtual environment of its own, and started with given settings."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from strata.loadtest.processes import ServerProcess

VERSION = "0.0.78"
MODEL_NAME = "peer"

# Its dependencies have moved on since its release. These are the last that fit together: optimum's BetterTransformer
# (its fastest path) needs transformers < 4.49, and the torch of this project saves a second one from being fetched.
PINS = (
    f"infinity-emb[server,torch]=={VERSION}",
    "torch==2.13.0",
    "transformers==4.48.3",
    "optimum==1.27.0",
    "sentence-transformers==3.4.1",
    "huggingface-hub==0.36.2",
    "numpy==1.26.4",
    "click==8.1.8",
    "typer==0.12.5",
    "fastapi==0.165.0",
    "starlette==1.10.0",
    "uvicorn==0.32.1",
    "prometheus-fastapi-instrumentator==8.1.0",
)


@dataclass(slots=True, frozen=True)
class Setting:
    """Options of Infinity that change its speed."""

    bettertransformer: bool
    dtype: str = "float32"
    batch_size: int = 32
    compiled: bool = False

    def __str__(self) -> str:
        kernels = "bettertransformer" if self.bettertransformer else "sdpa"
        return f"{kernels} {self.dtype} batch {self.batch_size}{' compiled' if self.compiled else ''}"

    def flags(self) -> list[str]:
        """As Infinity's command line has them."""
        return [
            "--bettertransformer" if self.bettertransformer else "--no-bettertransformer",
            "--compile" if self.compiled else "--no-compile",
            "--dtype",
            self.dtype,
            "--batch-size",
            str(self.batch_size),
        ]


# Worth trying on a CPU; the best of them is compared with. Left out: int8, whose vectors are no longer the model's
# (worst cosine 0.96), and float16, several times slower on a CPU.
SETTINGS = (
    Setting(bettertransformer=True),
    Setting(bettertransformer=True, batch_size=8),
    Setting(bettertransformer=True, batch_size=64),
    Setting(bettertransformer=True, dtype="bfloat16"),
    Setting(bettertransformer=False),
    Setting(bettertransformer=False, dtype="bfloat16"),
    Setting(bettertransformer=False, compiled=True),
)


def install(folder: Path, python: str = sys.executable) -> Path:
    """The `infinity_emb` of a virtual environment in ``folder``, made unless it is there with these very pins.

    pip takes its index from the machine's own configuration. Raises CalledProcessError when it fails.
    """
    done = folder / "strata-pins.txt"
    pins = "\n".join(PINS)
    if not done.is_file() or done.read_text(encoding="utf-8") != pins:
        subprocess.run([python, "-P", "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-P", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, *PINS], check=True)
        done.write_text(pins, encoding="utf-8")
    return folder / "bin" / "infinity_emb"


def serve(program: Path, model: Path, setting: Setting) -> ServerProcess:
    """Infinity serving a sentence-transformers folder with one setting."""
    command = [str(program), "v2", "--engine", "torch", "--device", "cpu", "--model-id", str(model)]
    command += ["--served-model-name", MODEL_NAME, "--log-level", "warning", *setting.flags()]
    # Its own warm-up runs full 512-token batches for minutes; the warm-up here is real texts, as for the other server.
    command += ["--no-model-warmup", "--no-vector-disk-cache"]
    quiet = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
    return ServerProcess(command, ready_path="/health", patience_s=300, environment=quiet)
