"""Validation of WebSocket upgrade requests and the 101 response (RFC 6455 §4.2). Pure."""

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
    """The head of an HTTP request."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        ...

    @property
    def version(self) -> tuple[int, int]:
        """The HTTP version as (major, minor)."""
        ...

    @property
    def headers(self) -> Headers:
        """All headers."""
        ...


class UpgradeProblem(NamedTuple):
    """Why an upgrade request is invalid, with the HTTP status of the response."""

    text: str
    status: int = 400
    headers: tuple[tuple[str, str], ...] = ()


NOT_GET: Final = UpgradeProblem("A WebSocket upgrade must be a GET request")
OLD_HTTP: Final = UpgradeProblem(
    "A WebSocket needs HTTP/1.1; a proxy may use HTTP/1.0 (nginx: set proxy_http_version 1.1)"
)
WITH_BODY: Final = UpgradeProblem("A WebSocket upgrade must not have a body")
NOT_ASKED: Final = UpgradeProblem("A WebSocket upgrade needs the header Connection: Upgrade")
NO_VERSION: Final = UpgradeProblem("Sec-WebSocket-Version must be sent exactly once")
OTHER_VERSION: Final = UpgradeProblem(
    f"Only version {_VERSION} of the WebSocket protocol is supported",
    426,
    (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", _VERSION)),
)
NO_KEY: Final = UpgradeProblem("Sec-WebSocket-Key must be sent exactly once: 16 bytes in base64")


def wants_upgrade(headers: Headers) -> bool:
    """Return whether a request asks for a WebSocket, valid or not."""
    named = headers.get("Upgrade", "").strip()
    return named.isascii() and named.lower() == "websocket"


def upgrade_problem(request: UpgradeRequest) -> UpgradeProblem | None:
    """Return what makes an upgrade request invalid, or None."""
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
    """Return whether `upgrade` is one of the Connection options."""
    values = headers.getall("Connection", ())
    if len(values) == 1 and values[0] == "Upgrade":
        return True
    return any(
        option.strip().lower() == "upgrade" for value in values for option in value.split(",")
    )


def _is_key(text: str) -> bool:
    try:
        return len(binascii.a2b_base64(text, strict_mode=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def switching_protocols(headers: Headers) -> bytes:
    """Return the 101 response to a valid upgrade request, without extensions."""
    key = headers["Sec-WebSocket-Key"].encode()
    digest = sha1(key + _GUID, usedforsecurity=False).digest()
    accept = binascii.b2a_base64(digest, newline=False)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
    )
