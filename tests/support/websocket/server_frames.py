"""What a gateway sends on a WebSocket, as bytes: for the tests of programs that read it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from tests.support.websocket.raw_socket import frame_bytes

WEBSOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def server_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return an unmasked frame; without `fin` the message continues in the next."""
    return frame_bytes(payload, opcode, fin=fin, key=None)


def accepting(request: bytes) -> bytes:
    """Return the response that accepts an upgrade, from the key in the request."""
    found = re.search(rb"(?i)^sec-websocket-key: *(\S+)", request, re.MULTILINE)
    assert found is not None
    digest = hashlib.sha1(found[1] + WEBSOCKET_GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
