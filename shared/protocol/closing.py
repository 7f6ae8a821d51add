"""WebSocket close codes: when each one is used and whether the client should reconnect."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from shared.protocol.limits import CLOSE_REASON_LIMIT_BYTES


class CloseCode(IntEnum):
    """The close codes that the gateway sends."""

    NORMAL = 1000
    """The handshake timed out, or the first frame is not JSON."""
    PROTOCOL_MISMATCH = 1002
    """No common protocol version, or an invalid WebSocket frame."""
    INVALID_TEXT = 1007
    """The reason in a close frame is not UTF-8."""
    UNSUPPORTED = 1003
    """A binary message where only text is understood."""
    POLICY = 1008
    """Refused: authentication, pairing or an invalid handshake. Reconnecting does not help."""
    TOO_BIG = 1009
    """A frame exceeds the size limit."""
    RESTART = 1012
    """This replica is shutting down; reconnect to any replica."""
    TRY_AGAIN = 1013
    """A dependency of this replica is unavailable; reconnect after `retryAfterMs`."""
    DEVICE_REMOVED = 4001
    """The device was removed, or its token was rotated or revoked."""


_SENDABLE: Final = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))
"""Codes allowed in a close frame (RFC 6455 §7.4 and its registry)."""


def may_be_sent(code: int) -> bool:
    """Return whether a code is allowed in a close frame."""
    return code in _SENDABLE


def cut_reason(reason: str) -> str:
    """Truncate a close reason to 120 UTF-8 bytes without splitting a character."""
    encoded = reason.encode()
    if len(encoded) <= CLOSE_REASON_LIMIT_BYTES:
        return reason
    return encoded[:CLOSE_REASON_LIMIT_BYTES].decode(errors="ignore")
