"""The device's proof: that it holds the key its id names, and signed this connection. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.protocol import refusals
from shared.protocol.limits import SIGNED_AT_SKEW_MS
from shared.protocol.signing import (
    decode_public_key,
    device_id_of,
    encode_base64,
    signature_holds,
    trimmed,
)

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
    """Check a device's proof in the order of contract §4.11.

    Returns the public key in canonical form, or why the proof does not hold.
    """
    public_key = decode_public_key(device.public_key)
    if public_key is None or device_id_of(public_key) != device.id:
        return refusals.DEVICE_ID_MISMATCH
    if abs(now_ms - device.signed_at) > SIGNED_AT_SKEW_MS:
        return refusals.SIGNATURE_EXPIRED
    signed_nonce = trimmed(device.nonce)
    if not signed_nonce:
        return refusals.NONCE_REQUIRED
    if signed_nonce != nonce:
        return refusals.NONCE_MISMATCH
    if not signature_holds(params, device, role, scopes, public_key):
        return refusals.SIGNATURE_INVALID
    return encode_base64(public_key)
