"""The WebSocket upgrade (RFC 6455 §4.2): what is wrong with a request, the answer to a sound one.

Pure.
"""

from __future__ import annotations

import binascii
from hashlib import sha1
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = "13"
_KEY_BYTES: Final = 16


def wants_upgrade(headers: Mapping[str, str]) -> bool:
    """Say whether a request asks for a WebSocket, soundly or not."""
    return headers.get("Upgrade", "").strip().lower() == "websocket"


def upgrade_problem(method: str, headers: Mapping[str, str]) -> str | None:
    """Say why a request for a WebSocket can't be met, or None."""
    if method != "GET":
        return "A WebSocket is asked for with GET"
    if "upgrade" not in headers.get("Connection", "").lower():
        return "A WebSocket is asked for with the header Connection: Upgrade"
    if headers.get("Sec-WebSocket-Version") != _VERSION:
        return f"Only version {_VERSION} of the WebSocket protocol is spoken here"
    try:
        key = binascii.a2b_base64(headers.get("Sec-WebSocket-Key", ""), strict_mode=True)
    except (binascii.Error, ValueError):
        key = b""
    return None if len(key) == _KEY_BYTES else "Sec-WebSocket-Key is to be 16 bytes in base64"


def switching_protocols(headers: Mapping[str, str]) -> bytes:
    """Return the response to a sound request for a WebSocket: 101, without any extension."""
    key = headers["Sec-WebSocket-Key"].encode()
    digest = sha1(key + _GUID, usedforsecurity=False).digest()
    accept = binascii.b2a_base64(digest, newline=False)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
    )
