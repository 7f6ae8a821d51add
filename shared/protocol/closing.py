"""Close codes, each with when it is used and whether the client should come back (contract §11)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from shared.protocol.limits import CLOSE_REASON_LIMIT_BYTES


class CloseCode(IntEnum):
    """The codes that the gateway closes sockets with."""

    NORMAL = 1000
    """Silence past the handshake deadline, or a first frame that is not JSON."""
    PROTOCOL_MISMATCH = 1002
    """No common protocol version, or a broken WebSocket frame."""
    INVALID_TEXT = 1007
    """A close frame whose reason is not UTF-8."""
    POLICY = 1008
    """Refused: authentication, pairing, or a broken handshake. Coming back changes nothing."""
    TOO_BIG = 1009
    """A frame over the limit."""
    RESTART = 1012
    """This replica leaves; come back, to any replica."""
    TRY_AGAIN = 1013
    """Something this replica depends on is missing; come back after `retryAfterMs`."""
    DEVICE_REMOVED = 4001
    """The device was removed, or its token rotated or revoked."""


_SENDABLE: Final = (range(1000, 1004), range(1007, 1015), range(3000, 5000))
"""Codes that may stand in a close frame (RFC 6455 §7.4 and its registry)."""


def may_be_sent(code: int) -> bool:
    """Say whether a code may stand in a close frame."""
    return any(code in codes for codes in _SENDABLE)


def answer_to_close(code: int) -> int:
    """Return the code that answers a peer's close: the same, where it may be sent at all."""
    return code if may_be_sent(code) else CloseCode.NORMAL


def cut_reason(reason: str) -> str:
    """Cut a close reason to 120 UTF-8 bytes, at a character."""
    encoded = reason.encode()
    if len(encoded) <= CLOSE_REASON_LIMIT_BYTES:
        return reason
    return encoded[:CLOSE_REASON_LIMIT_BYTES].decode(errors="ignore")
