"""Device tokens with their device id in front. Pure.

A device token is derived, not stored, and does not show which device it belongs to. On a WebSocket
the device names itself. A plain HTTP request has only the token, so a gateway that forwards HTTP
issues tokens with the device id in front.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from typing import Final

from shared.protocol.signing import encode_base64

DEVICE_ID_BYTES: Final = 32
MAC_CHARACTERS: Final = 43
"""The length of a token as it is derived: 32 bytes in base64url, without padding."""
NAMED_CHARACTERS: Final = 86
"""The length of a token with its device id: 64 bytes in base64url, without padding."""


def with_device_id(token: str, device_id: str) -> str:
    """Return a derived token with its device id in front.

    A token or device id of another form is returned unchanged.
    """
    mac = _decoded(token, MAC_CHARACTERS)
    if mac is None:
        return token
    try:
        owner = bytes.fromhex(device_id)
    except ValueError:
        return token
    return encode_base64(owner + mac) if len(owner) == DEVICE_ID_BYTES else token


def owner_and_token(text: str) -> tuple[str, str] | None:
    """Return the device id and the derived token of a text with both, or None."""
    both = _decoded(text, NAMED_CHARACTERS)
    if both is None:
        return None
    return both[:DEVICE_ID_BYTES].hex(), encode_base64(both[DEVICE_ID_BYTES:])


def without_device_id(text: str, device_id: str) -> str:
    """Return the derived token of this device; any other text is returned unchanged."""
    found = owner_and_token(text)
    return found[1] if found is not None and found[0] == device_id else text


def may_be_derived(text: str) -> bool:
    """Return whether a text has the form of a derived token without a device id."""
    return _decoded(text, MAC_CHARACTERS) is not None


def _decoded(text: str, characters: int) -> bytes | None:
    """Decode canonical base64url of exactly this length; None for everything else."""
    if len(text) != characters or not text.isascii():
        return None
    try:
        data = urlsafe_b64decode(text + "=" * (-characters % 4))
    except (binascii.Error, ValueError):
        return None
    return data if encode_base64(data) == text else None
