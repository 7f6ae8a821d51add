"""Listening sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKLOG: Final = 4096
_SHOWN_CHARACTERS: Final = 60


class ListenError(Exception):
    """An address on which listening is not possible."""


def open_sockets(
    hosts: Sequence[str], port: int, *, reuse_port: bool = False, backlog: int = BACKLOG
) -> list[socket.socket]:
    """Listen on a port of several hosts; raises ListenError with the reason.

    Port 0 selects a free port, the same for all hosts. A host whose address family this machine
    lacks is skipped if others remain. With `reuse_port`, other processes of this user may listen on
    the same port if they set it too, and the system distributes connections over all of them.
    `backlog` is how many connections may wait to be accepted.
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
                if reuse_port:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                opened.append(_usable(sock, backlog))
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


def _usable(sock: socket.socket, backlog: int) -> socket.socket:
    sock.setblocking(False)
    sock.listen(backlog)
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
