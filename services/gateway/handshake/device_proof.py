"""Verification of a device's signature over the connection's nonce. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.protocol import refusals
from shared.protocol.limits import PUBLIC_KEY_LIMIT_CHARACTERS, SIGNED_AT_SKEW_MS
from shared.protocol.signing import (
    decode_public_key,
    device_id_of,
    encode_base64,
    signature_holds,
    trimmed,
)

_KEYS_REMEMBERED: Final = 4096

if TYPE_CHECKING:
    from shared.protocol.connect import ConnectParams, Device
    from shared.protocol.refusals import Refusal


def verify_device(
    params: ConnectParams,
    device: Device,
    *,
    role: str,
    scopes: list[str],
    nonce: str,
    now_ms: int,
) -> str | Refusal:
    """Verify that a device holds the key its id names and has signed this connection.

    Returns the public key in canonical form, or the refusal for the first check that fails.
    """
    readable = len(device.public_key) <= PUBLIC_KEY_LIMIT_CHARACTERS
    known = _known(device.public_key) if readable else None
    if known is None or known.device_id != device.id:
        return refusals.DEVICE_ID_MISMATCH
    if abs(now_ms - device.signed_at) > SIGNED_AT_SKEW_MS:
        return refusals.SIGNATURE_EXPIRED
    if device.nonce != nonce and (signed_nonce := trimmed(device.nonce)) != nonce:
        return refusals.NONCE_MISMATCH if signed_nonce else refusals.NONCE_REQUIRED
    if not signature_holds(params, device, role, scopes, known.raw):
        return refusals.SIGNATURE_INVALID
    return known.canonical


class _Known(NamedTuple):
    """A decoded public key: its 32 bytes, its canonical form and the id of its device."""

    raw: bytes
    canonical: str
    device_id: str


@lru_cache(_KEYS_REMEMBERED)
def _known(public_key: str) -> _Known | None:
    """Decode a public key; cached, because most devices reconnect often."""
    raw = decode_public_key(public_key)
    return None if raw is None else _Known(raw, encode_base64(raw), device_id_of(raw))
