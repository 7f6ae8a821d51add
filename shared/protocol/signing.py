"""Device identity: keys, ids, the payloads that devices sign, and the check of a signature."""

from __future__ import annotations

import binascii
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import UNSET
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from shared.protocol import refusals
from shared.protocol.connect import Auth
from shared.protocol.limits import PUBLIC_KEY_LIMIT_CHARACTERS, SIGNED_AT_SKEW_MS

if TYPE_CHECKING:
    from shared.protocol.connect import Client, ConnectParams, Device
    from shared.protocol.refusals import Refusal

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_WHITE_SPACE: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_LOWER_ASCII: Final = str.maketrans({chr(c): chr(c + 32) for c in range(ord("A"), ord("Z") + 1)})
_NO_AUTH: Final = Auth()
_KEYS_REMEMBERED: Final = 4096
_TEXTS_REMEMBERED: Final = 1024
"""How many platforms and device families; few differ."""


def decode_base64(text: str) -> bytes | None:
    """Decode base64, url-safe or standard, with or without padding; None if invalid."""
    try:
        bare = text.strip().rstrip("=").encode("ascii").translate(_FROM_URL_SAFE)
        return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def encode_base64(data: bytes) -> str:
    """Encode as base64url without padding, the canonical form of keys and signatures."""
    encoded = binascii.b2a_base64(data, newline=False).translate(_TO_URL_SAFE)
    return encoded.rstrip(b"=").decode()


def trimmed(text: str) -> str:
    """Trim as clients do: JavaScript's set of white space differs from Python's."""
    return text.strip(_WHITE_SPACE)


def decode_public_key(text: str) -> bytes | None:
    """Return the raw 32 bytes of a public key in base64 or PEM (SPKI); None if invalid."""
    if "-----BEGIN" in text:
        lines = (line.strip() for line in text.split("\n"))
        body = "".join(line for line in lines if not line.startswith("-----"))
        der = decode_base64("".join(body.split()))
        if der is None or not der.startswith(_SPKI_PREFIX):
            return None
        raw: bytes | None = der[len(_SPKI_PREFIX) :]
    else:
        raw = decode_base64(text)
    return raw if raw is not None and len(raw) == PUBLIC_KEY_BYTES else None


def device_id_of(public_key: bytes) -> str:
    """Return the device id of a raw public key: its SHA-256 in lowercase hex."""
    return hashlib.sha256(public_key).hexdigest()


@lru_cache(_TEXTS_REMEMBERED)
def normalised_metadata(text: str | None) -> str:
    """Trim and lowercase ASCII letters only, as for signatures and comparisons."""
    if not text:
        return ""
    text = trimmed(text)
    return text.lower() if text.isascii() else text.translate(_LOWER_ASCII)


def signed_token(auth: Auth) -> str:
    """Return the token that the signature covers: the first one present, even if empty."""
    for candidate in (auth.token, auth.device_token, auth.bootstrap_token):
        if candidate is not UNSET:
            return candidate
    return ""


def payload_v2(device: Device, client: Client, role: str, scopes: list[str], token: str) -> str:
    """Return the payload that the browser dashboard signs."""
    return (
        f"v2|{device.id}|{client.id}|{client.mode}|{role}|{','.join(scopes)}"
        f"|{device.signed_at}|{token}|{trimmed(device.nonce)}"
    )


def payload_v3(device: Device, client: Client, role: str, scopes: list[str], token: str) -> str:
    """Return the payload that all other clients sign: version 2 plus platform and device family."""
    platform = normalised_metadata(client.platform)
    family = normalised_metadata(client.device_family or None)
    return (
        f"v3|{device.id}|{client.id}|{client.mode}|{role}|{','.join(scopes)}"
        f"|{device.signed_at}|{token}|{trimmed(device.nonce)}|{platform}|{family}"
    )


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


def signature_holds(
    params: ConnectParams, device: Device, role: str, scopes: list[str], public_key: bytes
) -> bool:
    """Return whether the device signed this `connect`, as v3 or v2; `public_key` is raw."""
    signature = decode_base64(device.signature)
    if signature is None or len(signature) != SIGNATURE_BYTES:
        return False
    token = signed_token(params.auth or _NO_AUTH)
    for payload in (payload_v3, payload_v2):
        text = payload(device, params.client, role, scopes, token)
        try:
            crypto_sign_open(signature + text.encode(), public_key)
        except BadSignatureError:
            continue
        return True
    return False
