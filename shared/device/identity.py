"""A device's Ed25519 key, which identifies it and signs its handshakes."""

from __future__ import annotations

import secrets
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from shared.protocol.signing import SIGNATURE_BYTES, device_id_of, encode_base64

SEED_BYTES: Final = 32


class DeviceKey:
    """A key pair.

    `device_id` is the lowercase hex SHA-256 of the raw public key, `public_key` that key as
    base64url without padding. The seed is secret: 32 bytes that are never printed.
    """

    __slots__ = ("_secret", "device_id", "public_key", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        raw, self._secret = crypto_sign_seed_keypair(seed)
        self.seed = seed
        self.device_id = device_id_of(raw)
        self.public_key = encode_base64(raw)

    @classmethod
    def generate(cls) -> DeviceKey:
        """Generate a new key from the system's randomness."""
        return cls(secrets.token_bytes(SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> DeviceKey:
        """Return the key of a seed; ValueError unless it has 32 bytes."""
        return cls(seed)

    def sign(self, payload: str) -> str:
        """Sign the UTF-8 bytes of a payload; returns base64url without padding."""
        return encode_base64(crypto_sign(payload.encode(), self._secret)[:SIGNATURE_BYTES])

    def __repr__(self) -> str:
        return f"DeviceKey({self.device_id})"
