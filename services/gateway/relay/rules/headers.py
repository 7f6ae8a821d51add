"""HTTP headers for the upstream: the user to trust, and the client's own headers. Pure.

The upstream trusts a user name in one header when another header is present. It checks the presence
of that header, not its value, so the secret is in the headers' names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.upstream import CLIENT_USER, COMMAND_USER, RELAY_USER, HeaderNames, header_names

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CLIENT_USER",
    "COMMAND_USER",
    "RELAY_USER",
    "HeaderNames",
    "header_names",
]

SCOPES_HEADER: Final = "X-OpenClaw-Scopes"
"""Narrows what an upstream user may do on one connection."""
_SCOPE: Final = re.compile(r"[\w.:-]+", re.ASCII)
LOOPBACK_STAND_IN: Final = "192.0.2.1"
"""Sent as the client's address for clients on this machine: the upstream refuses loopback there."""

_STRIPPED: Final = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "forwarded",
        "host",
        "keep-alive",
        "origin",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-openclaw-scopes",
        "x-real-ip",
    }
)
_STRIPPED_PREFIXES: Final = ("x-forwarded-", "tailscale-", "sec-websocket-", "x-latchkey-")


@dataclass(frozen=True, slots=True)
class ForwardedClient:
    """What the upstream learns about a client, all of it verified by this gateway."""

    address: str
    loopback: bool
    secure: bool
    """Whether the client connected over TLS."""
    host: str
    """The Host that the client sent; the upstream builds links from it."""
    origin: str | None = None
    """The Origin, if this gateway accepted it."""


def identity_headers(names: Iterable[HeaderNames], user: str) -> list[tuple[str, str]]:
    """Return the headers that make the upstream trust `user`.

    The headers of all secrets are sent, so that the upstream may be configured with any of them.
    """
    return [pair for one in names for pair in ((one.user, user), (one.required, "1"))]


def scopes_header(scopes: Iterable[str]) -> tuple[str, str]:
    """Return the header that narrows an upstream user's rights to these scopes.

    It is a list with commas. A client chooses the text of a scope, and one with a comma would be
    several to the upstream, of which nobody approved any: only plain names are sent.
    """
    return SCOPES_HEADER, ",".join(filter(_SCOPE.fullmatch, scopes))


def forwarded_headers(client: ForwardedClient) -> list[tuple[str, str]]:
    """Return the headers that describe the client to the upstream."""
    headers = [
        ("Host", client.host),
        ("X-Forwarded-For", LOOPBACK_STAND_IN if client.loopback else client.address),
        ("X-Forwarded-Proto", "https" if client.secure else "http"),
        ("X-Forwarded-Host", client.host),
    ]
    if client.origin is not None:
        headers.append(("Origin", client.origin))
    return headers


def passed_headers(
    headers: Iterable[tuple[str, str]], connection: str = ""
) -> list[tuple[str, str]]:
    """Return those of the client's headers that may be forwarded.

    `connection` is the client's Connection header: what it names is for this hop alone.
    """
    for_this_hop = {name.strip().lower() for name in connection.split(",")}
    return [
        (name, value)
        for name, value in headers
        if (lower := name.lower()) not in _STRIPPED
        and lower not in for_this_hop
        and not lower.startswith(_STRIPPED_PREFIXES)
    ]
