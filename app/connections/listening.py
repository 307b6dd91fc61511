"""The sockets a server listens on, bound before anything else is started: what cannot be had is told in a line."""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from strata.app.settings import Settings, SettingsError

_BACKLOG = 2048  # connections that wait to be accepted
_SO_ATTACH_FILTER = 26  # of Linux
# Classic BPF over a TCP segment: drop it (0) where its SYN flag is set, else keep it whole.
_NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


@dataclass(frozen=True)
class Listener:
    """A listening socket. ``name`` is what the log says of it."""

    name: str
    socket: socket.socket
    file: os.stat_result | None = None  # of a Unix socket

    @property
    def place(self) -> dict[str, str]:
        """Where it can be reached, for the log."""
        address = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return {"uds": address}
        host, port = address[:2]
        return {"url": f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"}

    def close(self) -> None:
        """Stop listening; a Unix socket leaves its folder, too."""
        self._leave_folder()
        self.socket.close()

    def let_many_wait(self) -> None:
        """Set the backlog anew: asyncio has made it 100 connections.

        The kernel drops the SYN of a client that comes while the backlog is full; the client tries again in a second.
        """
        self.socket.listen(_BACKLOG)

    def take_no_more(self) -> None:
        """Accept no new connection, and keep those in the backlog; later clients find the socket closed."""
        if self.socket.family == socket.AF_UNIX:
            self._leave_folder()
            return
        code = b"".join(struct.pack("HBBI", *step) for step in _NO_SYN)
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HP", len(_NO_SYN), ctypes.addressof(buffer))
        with suppress(OSError):  # elsewhere than on Linux a client of the last moment is hung up on
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def _leave_folder(self) -> None:
        """Remove a Unix socket, unless somebody has put another in its place."""
        with suppress(OSError):
            if self.file and os.path.samestat(self.file, os.stat(self.socket.getsockname())):
                os.unlink(self.socket.getsockname())


def beyond_this_machine(settings: Settings) -> bool:
    """Whether other machines can reach the address."""
    return settings.uds is None and not _loops_back(settings.host)


def _loops_back(host: str) -> bool:
    """Whether it says this machine, however it is written: LOCALHOST, 127.1 and ::ffff:127.0.0.1, too."""
    with suppress(OSError, ValueError):
        return ipaddress.ip_address(socket.inet_aton(host)).is_loopback
    with suppress(ValueError):
        address = ipaddress.IPv6Address(host)
        return (address.ipv4_mapped or address).is_loopback
    return host.rstrip(".").lower() == "localhost"


def open_to_all(settings: Settings) -> SettingsError:
    """Why such an address is refused where nobody needs a key."""
    return SettingsError(
        f"--host: {settings.host} can be reached from other machines, and nobody would need a key: "
        "give --api-key, --tiers a file with keys, or --insecure"
    )


def bind(settings: Settings) -> list[Listener]:
    """Every socket the settings ask for, listening. Raises SettingsError naming the option."""
    if beyond_this_machine(settings) and not (settings.api_key or settings.tiers or settings.insecure):
        raise open_to_all(settings)  # before a name is looked up
    found: list[Listener] = []
    try:
        if settings.uds is not None:
            found.append(Listener("listening", _unix(settings.uds), os.stat(settings.uds)))
        else:
            found += [Listener("listening", s) for s in _tcp(settings.host, settings.port, "--port")]
        if settings.operations_port is not None:
            bound = _tcp(settings.host, settings.operations_port, "--operations-port")
            found += [Listener("operations", s) for s in bound]
    except SettingsError:
        for listener in found:
            listener.close()
        raise
    return found


def _tcp(host: str, port: int, option: str) -> list[socket.socket]:
    """A socket for every address of a name; ``::`` takes IPv4 in, too."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"--host: {host!r} is no address of this machine: {reason}") from error
    bound: list[socket.socket] = []
    failed: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(addresses):
        if _is_of_many(family, str(address[0])):
            for other in bound:
                other.close()
            raise SettingsError(
                f"--host: {host} is an address of many machines, to which nobody can connect; 0.0.0.0 is every address "
                "of this one"
            )
        at = (address[0], bound[0].getsockname()[1] if bound and not port else port, *address[2:])
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::" or len(addresses) > 1))
            sock.bind(at)
            sock.listen(_BACKLOG)  # now: two that only bind may both succeed
        except OSError as error:
            if sock:
                sock.close()
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for other in bound:
                    other.close()
                raise _told(error, host, port, option) from error
            failed = error  # a name may have an address of a family that this machine does not use
        else:
            bound.append(sock)
    if failed and not bound:
        raise _told(failed, host, port, option) from failed
    return bound


_USUAL = frozenset({"127.0.0.1", "::1", "0.0.0.0", "::"})  # addresses of which nothing need be asked


def _is_of_many(family: socket.AddressFamily, address: str) -> bool:
    """Whether it is multicast or broadcast: it can be bound, and then waited on in vain."""
    if address in _USUAL:
        return False
    if ipaddress.ip_address(address.partition("%")[0]).is_multicast:
        return True
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        try:
            probe.connect((address, 9))  # sends nothing
        except PermissionError:  # Linux: who sends to a broadcast address must ask for it
            return True
    return False


def _told(error: OSError, host: str, port: int, option: str) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        way = "end what listens there, or give another" + (" (0 takes a free one)" if option == "--port" else "")
        return SettingsError(f"{option}: {port} is in use on {host}; {way}")
    if error.errno == errno.EACCES:
        return SettingsError(f"{option}: {port} needs rights that this process lacks; give one from 1024 on")
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return SettingsError(f"--host: {host} is no address of this machine; 0.0.0.0 is every one of IPv4")
    return SettingsError(f"{option}: {port} on {host}: {error.strerror or error}")


def _unix(path: Path) -> socket.socket:
    """A socket in the file system, replacing one that nobody listens on any more."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists():
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise SettingsError(f"--uds: {path} is there and is no socket; give another path, or remove it")
            if _answers(path):
                raise SettingsError(f"--uds: {path} is in use; end what listens there, or give another path")
            path.unlink()
        sock.bind(os.fspath(path.absolute()))
        # Who may connect is decided by the folder it lies in: balancers run as other users.
        path.chmod(0o666)
        sock.listen(_BACKLOG)
    except SettingsError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise SettingsError(f"--uds: {path}: {error.strerror or error}") from error
    return sock


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        return True
