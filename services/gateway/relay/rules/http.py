"""Decides which HTTP requests go to the upstream, and with whose rights. Pure.

The upstream trusts the identity header, and takes a request with it for one of the owner. So it is
sent for the few paths that the dashboard reads with a token, and for nothing else: a path that
could be read in two ways is not passed on at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from services.gateway.relay.rules.headers import passed_headers
from shared.device_tokens import may_be_derived, owner_and_token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.settings.environment import Secrets

BARE_TOKEN_SCOPES: Final = ("operator.read",)
"""What the gateway token alone may do over HTTP: the dashboard reads before it connects."""
HTTP_ROLE: Final = "operator"
"""The role whose device tokens count over HTTP."""

_NOT_PASSED: Final = frozenset(
    {
        *("v1", "tools", "hooks"),
        *("livez", "healthz", "health", "readyz", "ready", "metrics", "setup"),
    }
)
"""First segments that never go upstream: its APIs for programs, and what this gateway serves."""
_PRIVATE: Final = "__openclaw__"
_PRIVATE_NOT_PASSED: Final = frozenset({"worker"})
_PLAIN_SEGMENT: Final = re.compile(r"[\w.~!$&'()*+,;=:@-]+", re.ASCII)
_WITH_IDENTITY: Final = (
    re.compile(r"(?:/__openclaw)?/control-ui-config\.json", re.ASCII),
    re.compile(r"/avatar/[^/]+", re.ASCII),
    re.compile(r"/api/users/[^/]+/avatar", re.ASCII),
    re.compile(
        r"/__openclaw__/(?:catalog-icon|channel-avatar|link-favicon|plugin-activity-icon"
        r"|plugin-icon|plugin-theme-art|workspace-icon)/.+",
        re.ASCII,
    ),
    re.compile(r"/__openclaw__/assistant-media", re.ASCII),
    re.compile(r"/plugins/.+", re.ASCII),
)
"""Paths that the dashboard reads with a token. Fixed parts match only if they are not encoded."""
_PIPES: Final = ("/desktop/observe", "/node-desktop/attach", "/node-portal/attach")
_CAPABILITY_PIPES: Final = f"/{_PRIVATE}/cap/"
_NO_SOCKETS_BELOW: Final = frozenset(
    {_PRIVATE, "api", "desktop", "node-desktop", "node-portal", "plugins", *_NOT_PASSED}
)
_RESPONSE_STRIPPED: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Access(Enum):
    """How a request for a path is treated."""

    ANONYMOUS = auto()
    """Passed on without an identity, whatever it brings."""
    WITH_IDENTITY = auto()
    """Passed on with an identity, if it brings a token that is in order."""
    NOWHERE = auto()
    """Not passed on: 404."""


class SocketRoute(Enum):
    """How a WebSocket on a path is treated."""

    GATEWAY = auto()
    """A client of the gateway protocol."""
    PIPE = auto()
    """Forwarded unchanged: the upstream checks the ticket in its address."""
    NOWHERE = auto()
    """Not passed on: 404."""


def access_of(raw_path: str) -> Access:
    """Return the treatment of a raw path (percent-encoded, without its query)."""
    segments = _segments(raw_path)
    if segments is None or _is_not_passed(segments):
        return Access.NOWHERE
    if any(pattern.fullmatch(raw_path) for pattern in _WITH_IDENTITY):
        return Access.WITH_IDENTITY
    return Access.ANONYMOUS


def socket_route_of(raw_path: str) -> SocketRoute:
    """Return the treatment of a WebSocket on a raw path (percent-encoded, without its query)."""
    segments = _segments(raw_path)
    if segments is None:  # safe: a client of the protocol is never passed on by its own path
        return SocketRoute.GATEWAY
    if raw_path in _PIPES or (
        raw_path.startswith(_CAPABILITY_PIPES) and len(raw_path) > len(_CAPABILITY_PIPES)
    ):
        return SocketRoute.PIPE
    return SocketRoute.NOWHERE if segments[0] in _NO_SOCKETS_BELOW else SocketRoute.GATEWAY


def _segments(raw_path: str) -> list[str] | None:
    """Return the segments, decoded and in lower case; None for an ambiguous path.

    The upstream reads paths as browsers do: it resolves dot segments, encoded ones too, takes a
    backslash for a slash and the segment after `//` for a host, and drops tabs and line ends.
    """
    if not raw_path.startswith("/"):
        return None
    raw = raw_path[1:].split("/")
    if "" in raw[:-1]:
        return None
    segments = []
    for one in raw:
        if not _is_sound(one):
            return None
        segment = unquote_to_bytes(one).decode("utf-8", "replace").lower()
        if segment in {".", ".."}:
            return None
        segments.append(segment)
    return segments


def _is_sound(segment: str) -> bool:
    """Return whether URL parsers leave a raw segment unchanged."""
    return (
        not segment
        or _PLAIN_SEGMENT.fullmatch(re.sub(r"%[0-9A-Fa-f]{2}", "x", segment)) is not None
    )


def _is_not_passed(segments: list[str]) -> bool:
    if segments[0] in _NOT_PASSED:
        return True
    return segments[0] == _PRIVATE and len(segments) > 1 and segments[1] in _PRIVATE_NOT_PASSED


@dataclass(frozen=True, slots=True)
class GatewayToken:
    """The bearer is the gateway token; the address may still be locked out."""


@dataclass(frozen=True, slots=True)
class DeviceToken:
    """The bearer names a device; the token itself is not yet checked."""

    device_id: str
    token: str


@dataclass(frozen=True, slots=True)
class WrongToken:
    """The bearer is not a secret that is accepted here.

    `counts`: it may have been a guess at one.
    """

    counts: bool


Bearer = GatewayToken | DeviceToken | WrongToken


def bearer_of(authorization: str, gateway_tokens: Secrets) -> Bearer | None:
    """Classify an Authorization header; None if it has no bearer.

    A device token without a device id cannot be looked up, so it is no use here. It is no guess
    either, unless a gateway token in force has the same form: clients that were paired before the
    upstream was there come with such tokens, and must not be locked out for it.
    """
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return None
    if not token.isascii():
        return WrongToken(counts=True)
    if gateway_tokens.accepts(token):
        return GatewayToken()
    found = owner_and_token(token)
    if found is not None:
        return DeviceToken(*found)
    unusable = may_be_derived(token) and not any(map(may_be_derived, gateway_tokens))
    return WrongToken(counts=not unusable)


def request_headers(headers: Iterable[tuple[str, str]], connection: str) -> list[tuple[str, str]]:
    """Return those of the client's headers that are forwarded with an HTTP request."""
    return [
        (name, value)
        for name, value in passed_headers(headers, connection)
        if name.lower() != "expect"
    ]


def response_headers(headers: Iterable[tuple[str, str]], connection: str) -> list[tuple[str, str]]:
    """Return the upstream's headers for the client: all but hop-by-hop headers."""
    for_this_hop = {name.strip().lower() for name in connection.split(",")}
    return [
        (name, value)
        for name, value in headers
        if (lower := name.lower()) not in _RESPONSE_STRIPPED and lower not in for_this_hop
    ]
