"""The part of WebSocket that a load test needs, as bytes: upgrade, text, ping, close. No I/O."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Final, NamedTuple

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

HEAD_LIMIT_BYTES: Final = 16_384
FRAME_LIMIT_BYTES: Final = 1 << 20
HEAD_END: Final = b"\r\n\r\n"

_KEY: Final = base64.b64encode(b"latchkey's churn")
"""Sixteen constant bytes, so that the right answer is known in advance."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ACCEPT: Final = base64.b64encode(hashlib.sha1(_KEY + _GUID, usedforsecurity=False).digest())
_MASK: Final = b"\0\0\0\0"
"""A mask of zeros leaves the payload unchanged and costs no time."""
_CONTROL_LIMIT: Final = 125
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127
_FIN: Final = 0x80
_CODE_BYTES: Final = 2
_NO_CODE: Final = 1005


class BrokenFrame(Exception):
    """The peer sent something that servers must not send."""


class Frame(NamedTuple):
    """One frame, and the offset of the next."""

    opcode: int
    payload: bytes
    end: int


def upgrade_request(host: str, path: str) -> bytes:
    """Return the request for a WebSocket; `host` is the Host header."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY.decode()}\r\n"
        "User-Agent: latchkey-churn\r\n\r\n"
    ).encode()


def upgrade_problem(head: bytes, body: bytes = b"") -> str:
    """Return why the response is no WebSocket upgrade; empty if it is one."""
    status = head.partition(b"\r\n")[0].split(b" ")
    if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].isdigit():
        return "no HTTP"
    if status[1] != b"101":
        first_line = body.decode(errors="replace").strip().partition("\n")[0][:60]
        return f"HTTP {status[1].decode()}{f' {first_line}' if first_line else ''}"
    return "" if _ACCEPT in head else "wrong Sec-WebSocket-Accept"


def text_frame(payload: bytes) -> bytes:
    """Return a text frame of up to 65 535 bytes, masked as required of clients."""
    if len(payload) <= _CONTROL_LIMIT:
        return struct.pack("!BB", _FIN | TEXT, _FIN | len(payload)) + _MASK + payload
    return struct.pack("!BBH", _FIN | TEXT, _FIN | _TWO_BYTES, len(payload)) + _MASK + payload


def control_frame(opcode: int, payload: bytes) -> bytes:
    """Return a close, ping or pong of up to 125 bytes."""
    return struct.pack("!BB", _FIN | opcode, _FIN | len(payload)) + _MASK + payload


def close_frame(code: int) -> bytes:
    """Return a close frame without a reason."""
    return control_frame(CLOSE, code.to_bytes(_CODE_BYTES, "big"))


def read_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame; 1005 if it has none."""
    if len(payload) < _CODE_BYTES:
        return _NO_CODE, ""
    reason = payload[_CODE_BYTES:].decode(errors="replace")
    return int.from_bytes(payload[:_CODE_BYTES], "big"), reason


def read_frame(data: bytes, at: int) -> Frame | None:
    """Return the frame at offset `at`; None while it is incomplete. Raises BrokenFrame."""
    left = len(data) - at
    if left < 2:
        return None
    first, length = data[at], data[at + 1]
    if length & _FIN:
        raise BrokenFrame("masked")
    if not first & _FIN or first & 0x70:
        raise BrokenFrame("in parts or compressed")
    start = 2
    if length == _TWO_BYTES:
        start = 4
        length = int.from_bytes(data[at + 2 : at + 4], "big")
    elif length == _EIGHT_BYTES:
        start = 10
        length = int.from_bytes(data[at + 2 : at + 10], "big")
    if left < start:
        return None
    if length > FRAME_LIMIT_BYTES:
        raise BrokenFrame(f"of {length} bytes")
    if left < start + length:
        return None
    end = at + start + length
    return Frame(first & 0x0F, data[at + start : end], end)
