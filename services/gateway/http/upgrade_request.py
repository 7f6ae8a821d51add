"""The WebSocket upgrade (RFC 6455 §4.2): what is wrong with a request, the answer to a sound one.

Pure.
"""

from __future__ import annotations

import binascii
from hashlib import sha1
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy

    Headers = CIMultiDict[str] | CIMultiDictProxy[str]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = "13"
_KEY_BYTES: Final = 16
_HTTP_VERSION_MIN: Final = (1, 1)


class UpgradeRequest(Protocol):
    """The head of a request."""

    @property
    def method(self) -> str:
        """GET and its like."""
        ...

    @property
    def version(self) -> tuple[int, int]:
        """The version of HTTP."""
        ...

    @property
    def headers(self) -> Headers:
        """All headers."""
        ...


class UpgradeProblem(NamedTuple):
    """Why a request for a WebSocket cannot be met, and the HTTP status that says so."""

    text: str
    status: int = 400
    headers: tuple[tuple[str, str], ...] = ()


NOT_GET: Final = UpgradeProblem("A WebSocket is asked for with GET")
OLD_HTTP: Final = UpgradeProblem(
    "A WebSocket needs HTTP/1.1; a proxy may be set to HTTP/1.0 (nginx: proxy_http_version 1.1)"
)
WITH_BODY: Final = UpgradeProblem("A request for a WebSocket has no body")
NOT_ASKED: Final = UpgradeProblem("A WebSocket is asked for with the header Connection: Upgrade")
NO_VERSION: Final = UpgradeProblem("Sec-WebSocket-Version is to be there once")
OTHER_VERSION: Final = UpgradeProblem(
    f"Only version {_VERSION} of the WebSocket protocol is spoken here",
    426,
    (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", _VERSION)),
)
NO_KEY: Final = UpgradeProblem("Sec-WebSocket-Key is to be there once: 16 bytes in base64")


def wants_upgrade(headers: Headers) -> bool:
    """Say whether a request asks for a WebSocket, soundly or not."""
    named = headers.get("Upgrade", "").strip()
    return named.isascii() and named.lower() == "websocket"


def upgrade_problem(request: UpgradeRequest) -> UpgradeProblem | None:
    """Say why a request for a WebSocket can't be met, or None."""
    headers = request.headers
    if request.method != "GET":
        return NOT_GET
    if request.version < _HTTP_VERSION_MIN:
        return OLD_HTTP
    if not _connection_upgrades(headers):
        return NOT_ASKED
    versions = headers.getall("Sec-WebSocket-Version", ())
    if len(versions) != 1:
        return NO_VERSION
    if versions[0] != _VERSION:
        return OTHER_VERSION
    keys = headers.getall("Sec-WebSocket-Key", ())
    return None if len(keys) == 1 and _is_key(keys[0]) else NO_KEY


def _connection_upgrades(headers: Headers) -> bool:
    """Say whether `upgrade` is one of the options of Connection."""
    given = headers.getall("Connection", ())
    if len(given) == 1 and given[0] == "Upgrade":
        return True
    return any(option.strip().lower() == "upgrade" for one in given for option in one.split(","))


def _is_key(text: str) -> bool:
    try:
        return len(binascii.a2b_base64(text, strict_mode=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def switching_protocols(headers: Headers) -> bytes:
    """Return the response to a sound request for a WebSocket: 101, without any extension."""
    key = headers["Sec-WebSocket-Key"].encode()
    digest = sha1(key + _GUID, usedforsecurity=False).digest()
    accept = binascii.b2a_base64(digest, newline=False)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
    )
