"""Where the server listens, once it does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Ports:
    """Numbers that the gateway and the pages need."""

    main: int | None = None  # None on a Unix socket
    operations: int | None = None  # where operations have a port of their own
