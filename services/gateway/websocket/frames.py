"""Builds frames as bytes, never fragmented. Pure."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

from shared.protocol.closing import cut_reason

_FIN: Final = 0x80
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_TEXT: Final = 0x81
_CLOSE: Final = 0x88
_PONG: Final = 0x8A
_SHORT_LENGTH_BYTES: Final = 126
_MEDIUM_LENGTH_BYTES: Final = 65_536

_short: Final = Struct("!BB").pack
_medium: Final = Struct("!BBH").pack
_long: Final = Struct("!BBQ").pack
_code: Final = Struct("!H").pack

_REASONS_REMEMBERED: Final = 256

PING: Final = b"\x89\x00"


def text_frame(payload: bytes) -> bytes:
    """Return a text frame; `payload` is UTF-8."""
    length = len(payload)
    if length < _SHORT_LENGTH_BYTES:
        return _short(_TEXT, length) + payload
    if length < _MEDIUM_LENGTH_BYTES:
        return _medium(_TEXT, 126, length) + payload
    return _long(_TEXT, 127, length) + payload


def text_frame_parts(payload: bytes) -> tuple[bytes, bytes]:
    """Frame a UTF-8 text without copying it: header and payload, to be written together."""
    return frame_header(_TEXT & _OPCODE, len(payload)), payload


def frame_header(opcode: int, length: int, *, masked: bool = False) -> bytes:
    """Return the header of one whole frame, up to where a mask key would stand."""
    first, mask = _FIN | opcode, _MASKED if masked else 0
    if length < _SHORT_LENGTH_BYTES:
        return _short(first, mask | length)
    if length < _MEDIUM_LENGTH_BYTES:
        return _medium(first, mask | 126, length)
    return _long(first, mask | 127, length)


@lru_cache(_REASONS_REMEMBERED)
def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame; the reason is truncated to fit a control frame."""
    payload = _code(code) + cut_reason(reason).encode()
    return _short(_CLOSE, len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    """Return the pong for a ping with this payload (at most 125 bytes)."""
    return _short(_PONG, len(payload)) + payload
