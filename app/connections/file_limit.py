"""How many files this process may open: each connection is one."""

from __future__ import annotations

import resource

_MOST_FILES = 65_536
_OTHER_FILES = 256  # descriptors that are no clients: the engine's sockets, the bundle, the libraries


def raise_file_limit() -> int:
    """Let this process open as many files as it may, up to 65,536; the number of connections that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    files = _MOST_FILES if soft == resource.RLIM_INFINITY else soft
    return max(files - _OTHER_FILES, files // 2)
