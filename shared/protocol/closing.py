"""Close codes, each with when it is used and whether the client should come back (contract §11)."""

from __future__ import annotations

from enum import IntEnum

from shared.protocol.limits import CLOSE_REASON_LIMIT_BYTES


class CloseCode(IntEnum):
    """The codes that the gateway closes sockets with."""

    NORMAL = 1000
    """Silence past the handshake deadline, or a first frame that is not JSON."""
    PROTOCOL_MISMATCH = 1002
    """No common protocol version, or a broken WebSocket frame."""
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


def cut_reason(reason: str) -> str:
    """Cut a close reason to 120 UTF-8 bytes, at a character."""
    encoded = reason.encode()
    if len(encoded) <= CLOSE_REASON_LIMIT_BYTES:
        return reason
    return encoded[:CLOSE_REASON_LIMIT_BYTES].decode(errors="ignore")
