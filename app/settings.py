"""Every option of the server once: its flag, its STRATA_* variable, its default and what it is for."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import Field, PositiveInt, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from strata.app.allowed import allowed
from strata.app.engine.options import FAITHFUL, EngineOptions
from strata.app.environment import PREFIX, by_variable, is_link

ENV_PREFIX = PREFIX

_LONGEST_NAME = 200
_THREADS_A_CORE = 32  # of this machine; more than these never start in time, or at all
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SettingsError(ValueError):
    """An option has a value it cannot have; the message is one line that names it."""


def _option(group: str, default: Any, description: str, metavar: str | None = None) -> Any:
    return Field(default, description=description, json_schema_extra={"group": group, "metavar": metavar or ""})


_MODEL, _HTTP, _CALLERS, _ENGINE, _QUEUE, _REQUESTS, _RUN = (
    "Model",
    "Address",
    "Callers",
    "Engine",
    "Batches and queue",
    "Requests",
    "Running",
)


class _Environment(EnvSettingsSource):
    """The environment, less what Kubernetes and container links put there under names of options."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        value, key, is_complex = super().get_field_value(field, field_name)
        linked = isinstance(value, str) and is_link(ENV_PREFIX + field_name, value)
        return (None if linked else value), key, is_complex


class Settings(BaseSettings):
    """The options of `strata serve`. Flags win over the environment, which wins over the defaults."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    model: str | None = _option(
        _MODEL,
        None,
        "bundle to serve: a name from `strata models list`, or a folder (default: the one shipped)",
        "NAME",
    )
    served_model_name: str | None = _option(
        _MODEL, None, "name told to clients in /info, /v1/models and answers (default: the bundle's)", "NAME"
    )
    allow_untrained: bool = _option(
        _MODEL, False, "accept every exit and dim, also those the model was not trained for"
    )
    default_prompt_name: str | None = _option(
        _MODEL, None, "prompt of the model put before every text that names none (default: the model's own)", "NAME"
    )
    task: str | None = _option(
        _MODEL,
        None,
        "task whose quality counts where neither request nor tier names one (default: the lowest of those measured)",
        "NAME",
    )

    host: str = _option(
        _HTTP,
        "127.0.0.1",
        "address to listen on; the default is reachable from this machine only, :: is every address, of IPv4 too",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = _option(_HTTP, 8080, "port to listen on; 0 takes a free one")
    operations_port: Annotated[int, Field(ge=0, le=65535)] | None = _option(
        _HTTP,
        None,
        "port of /metrics, /docs, /info, /now and /ui, without keys, only there (default: the same port)",
    )

    uds: Path | None = _option(
        _HTTP, None, "Unix socket to listen on instead of host and port; its folder says who may connect", "PATH"
    )
    root_path: str = _option(
        _HTTP,
        "",
        "path under which a proxy serves this, with or without taking it off, as /strata (default: none)",
        "PATH",
    )
    cors_origin: str | None = _option(
        _HTTP, None, "origins whose pages may call this from a browser, with commas between; * is every one", "ORIGIN"
    )

    client_seconds: _Seconds = _option(
        _HTTP,
        60.0,
        "longest a client may take to send a whole request, or to take its answer and send the next",
        "SECONDS",
    )

    tiers: Path | None = _option(
        _CALLERS, None, "TOML file of tiers and their keys, read again at SIGHUP (default: all served alike)", "FILE"
    )
    api_key: SecretStr | None = _option(
        _CALLERS,
        None,
        "one key that all callers need, where there are no tiers; a flag is seen by others: set it in the environment",
        "KEY",
    )
    insecure: bool = _option(_CALLERS, False, "listen beyond this machine without any key")

    backend: Literal["auto", "torch", "onnxruntime"] = _option(
        _ENGINE, "auto", "what runs the model; auto measures both at start and takes the faster"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = _option(
        _ENGINE,
        "auto",
        "arithmetic, float16 on a GPU alone; auto takes the fastest whose vectors keep --min-cosine to float32",
    )
    min_cosine: Annotated[float, Field(gt=0, le=1)] = _option(
        _ENGINE, FAITHFUL, "how far auto may go from float32, in any vector; below the default int8 may run, too", "X"
    )
    device: str = _option(
        _ENGINE, "auto", "where the model runs: auto, cpu, cuda (every GPU there is), or cuda:N", "DEVICE"
    )
    workers: PositiveInt | None = _option(_ENGINE, None, "engine processes (default: what this machine runs best)")
    threads: PositiveInt | None = _option(_ENGINE, None, "threads of each engine process (default: from the CPU quota)")

    max_batch_tokens: PositiveInt | None = _option(
        _QUEUE,
        None,
        "most tokens run together; a longer text runs in a batch of its own (default: 512 on a CPU, 32768 on a GPU)",
    )
    max_batch_requests: PositiveInt | None = _option(_QUEUE, None, "most texts run together (default: no limit)")
    max_concurrent_requests: PositiveInt = _option(_QUEUE, 2048, "requests in flight at once; more are refused (429)")
    max_queue_texts: PositiveInt = _option(_QUEUE, 8192, "texts that may wait; a request that does not fit is refused")
    max_queue_tokens: PositiveInt = _option(_QUEUE, 524_288, "tokens that may wait, likewise")
    shadow_share: Annotated[float, Field(ge=0, le=1)] = _option(
        _QUEUE, 0.001, "share of the shallow answers that are also run to full depth at idle, to know their quality"
    )

    # TEI's default of 32 fails clients that send whole document lists (LangChain sends 1,000 at once): a request is
    # cut into batches here anyway, and its size is bounded by the payload and by the queue.
    max_client_batch_size: PositiveInt = _option(_REQUESTS, 1024, "most texts in one request")
    payload_limit: PositiveInt = _option(_REQUESTS, 2_000_000, "largest request body, in bytes", "BYTES")
    payload_memory: PositiveInt = _option(
        _REQUESTS, 256_000_000, "bytes of request bodies in flight at once; more are refused (429)", "BYTES"
    )
    auto_truncate: bool = _option(_REQUESTS, True, "cut texts that are too long unless the request says otherwise")
    tokenization_workers: PositiveInt | None = _option(
        _REQUESTS,
        None,
        "threads that tokenize what is not looked up (default: 2, or the cores that engine and front leave, at most 8)",
    )
    writers: Annotated[int, Field(ge=0)] | None = _option(
        _REQUESTS,
        None,
        "processes that write large answers as JSON (default: half the cores that engine and front leave, at most 4)",
    )

    ui: bool = _option(_RUN, True, "serve the explorer at /ui")
    drain_seconds: _Seconds = _option(
        _RUN, 30.0, "at SIGTERM, longest wait for accepted requests to be answered", "SECONDS"
    )
    log_format: Literal["text", "json"] = _option(_RUN, "text", "one line an event, for people or for machines")
    log_level: Literal["debug", "info", "warning", "error"] = _option(_RUN, "info", "least severe event to log")
    log_requests: bool = _option(_RUN, True, "log one line a request (never its texts)")
    traces: bool = _option(
        _RUN, False, "send OpenTelemetry spans of requests where OTEL_EXPORTER_OTLP_ENDPOINT says; needs the otel extra"
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment."""
        return init_settings, _Environment(settings_cls)

    @property
    def origins(self) -> tuple[str, ...]:
        """Of cors_origin, one by one."""
        return tuple(word.strip().rstrip("/") for word in (self.cors_origin or "").split(",") if word.strip())

    @property
    def engine(self) -> EngineOptions:
        """The part that is the engine's."""
        return EngineOptions(self.backend, self.dtype, self.device, self.workers, self.threads, self.min_cosine)

    @field_validator("served_model_name")
    @classmethod
    def _fits_a_header(cls, name: str | None) -> str | None:
        if name is not None and (not name.isprintable() or name != name.strip() or len(name) > _LONGEST_NAME):
            raise ValueError(f"must be one line of at most {_LONGEST_NAME} characters, as it is told in a header")
        return name

    @field_validator("host")
    @classmethod
    def _bare(cls, host: str) -> str:
        if not host or re.search(r"/|\s", host) or re.fullmatch(r"[^:]*:\d+|\[.*\]:\d+", host):
            raise ValueError("must be a name or an address by itself, as 127.0.0.1; the port is --port")
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", device, re.ASCII):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return device

    @field_validator("root_path")
    @classmethod
    def _rooted(cls, path: str) -> str:
        path = path.rstrip("/")
        if path and not re.fullmatch(r"(/(?!\.{1,2}(/|$))[\w.~@:+-]+)+", path, re.ASCII):
            raise ValueError(
                "must be a path that begins with a slash, as /strata, of letters, digits and . _ ~ - @ : + without "
                "the steps . and .."
            )
        return path

    @field_validator("cors_origin")
    @classmethod
    def _origins(cls, given: str | None) -> str | None:
        for origin in (given or "").split(","):
            if given is not None and not re.fullmatch(r"\*|https?://[^/\s]+/?", origin.strip()):
                raise ValueError("must be * or origins as https://example.org, with commas between")
        return given

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("must be printable ASCII without spaces, as it is sent in a header")
        return key

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.operations_port and self.operations_port == self.port and self.uds is None:
            raise ValueError(
                f"--operations-port: {self.operations_port} is --port itself; give another, or leave it out to have "
                "everything on one port"
            )
        if self.api_key is not None and self.tiers is not None:
            raise ValueError("--api-key and --tiers are both given: put the key into the tiers file (strata keys new)")
        threads, cores = (self.workers or 1) * (self.threads or 1), os.cpu_count() or 1
        if threads > _THREADS_A_CORE * cores:
            raise ValueError(
                f"--workers and --threads: {threads} threads in all are more than {_THREADS_A_CORE} for each of this "
                f"machine's {cores} cores"
            )
        if self.max_queue_texts <= self.max_client_batch_size:
            raise ValueError(
                f"--max-queue-texts: must be more than the {self.max_client_batch_size} of --max-client-batch-size, "
                "as the largest request could never be accepted (/similarity adds a text). "
                f"Given: {self.max_queue_texts}"
            )
        if self.payload_memory < self.payload_limit:
            raise ValueError(
                f"--payload-memory: must be at least the {self.payload_limit} of --payload-limit, as the largest body "
                f"could never be read. Given: {self.payload_memory}"
            )
        return self


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every option, in groups; flags that are not given stay out of the namespace."""
    parser.usage = "%(prog)s [options]"
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        title = str(extra["group"])
        group = groups[title] = groups.get(title) or parser.add_argument_group(title)
        shape: dict[str, Any]
        if field.annotation is bool:
            shape = {"action": argparse.BooleanOptionalAction}
        elif choices := _choices(field):
            shape = {"choices": choices}
        else:
            shape = {"metavar": str(extra["metavar"]) or ("TEXT" if field.annotation is str else "N")}
        group.add_argument(
            "--" + name.replace("_", "-"), dest=name, default=argparse.SUPPRESS, help=_help(name, field), **shape
        )


def from_arguments(given: Mapping[str, Any]) -> Settings:
    """Settings from parsed flags, the environment and the defaults. Raises SettingsError."""
    flags = {name: value for name, value in given.items() if name in Settings.model_fields}
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise SettingsError(by_variable(_told(error), flags)) from error


def _told(error: ValidationError) -> str:
    """The first fault of an option, or of several together, in a line; options are named by their flags."""
    first = error.errors()[0]
    own = first["msg"].removeprefix("Value error, ") if first["type"] == "value_error" else None
    if not first["loc"]:
        return own or first["msg"]
    name = str(first["loc"][0])
    message = own or allowed(Settings.model_json_schema()["properties"][name])
    shown = "" if name == "api_key" else f". Given: {first['input']}"
    return f"--{name.replace('_', '-')}: {message}{shown}"


def _choices(field: FieldInfo) -> tuple[str, ...]:
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _help(name: str, field: FieldInfo) -> str:
    default = "" if field.default in (None, "") else f" (default: {_shown(field.default)})"
    return f"{field.description}{default} [{ENV_PREFIX}{name.upper()}]".replace("%", "%%")


def _shown(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
