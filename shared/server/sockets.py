"""Listening sockets: inherited from the parent process (LISTEN_FDS) or opened here."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BACKLOG: Final = 4096
_FIRST_HANDED_DESCRIPTOR: Final = 3
_COUNT_DIGITS: Final = 4
_SHOWN_CHARACTERS: Final = 60


class ListenError(Exception):
    """An address on which listening is not possible."""


def inherited_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets passed to this process, by systemd's convention.

    Raises ListenError if the inherited descriptors are not sockets.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    given = environ.get("LISTEN_FDS", "0")
    if not (given.isascii() and given.isdigit() and len(given) <= _COUNT_DIGITS):
        message = "LISTEN_FDS: must be the number of inherited sockets"
        raise ListenError(message)
    first = _FIRST_HANDED_DESCRIPTOR
    try:
        return [_usable(socket.socket(fileno=fd)) for fd in range(first, first + int(given))]
    except OSError as error:
        message = f"LISTEN_FDS={given}: an inherited descriptor is not a socket ({error.strerror})"
        raise ListenError(message) from None


def open_sockets(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Listen on a port of several hosts; raises ListenError with the reason.

    Port 0 selects a free port, the same for all hosts. A host whose address family this machine
    lacks is skipped if others remain.
    """
    opened: list[socket.socket] = []
    missing: list[str] = []
    for host in hosts:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (socket.gaierror, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "not a host name"
            message = f"HOST: {host[:_SHOWN_CHARACTERS]} is not an address of this machine: {why}"
            raise ListenError(message) from None
        for family, kind, protocol, _name, address in found:
            try:
                sock = socket.socket(family, kind, protocol)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                opened.append(_usable(sock))
            except OSError as error:
                if family == socket.AF_INET6 and error.errno in _NO_IPV6:
                    missing.append(host)
                    continue
                message = f"cannot listen on {host}, port {port}: {error.strerror}"
                raise ListenError(message) from None
            port = port or sock.getsockname()[1]
    if not opened:
        message = f"HOST: none of {', '.join(missing)} is an address of this machine"
        raise ListenError(message)
    return opened


def _usable(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    sock.listen(BACKLOG)
    return sock


_NO_IPV6: Final = frozenset({97, 99})
"""EAFNOSUPPORT and EADDRNOTAVAIL: no IPv6 here."""


def addresses(sockets: Sequence[socket.socket]) -> list[str]:
    """Return `host:port` of each listening socket."""
    found = []
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        found.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return found
