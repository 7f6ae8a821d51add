"""Nonces: random UUIDs, each used once."""

from __future__ import annotations

import uuid

from services.gateway.handshake.handshake import new_nonce


def test_nonces_are_different_random_uuids() -> None:
    nonces = [new_nonce() for _ in range(1000)]
    assert len(set(nonces)) == len(nonces)
    for nonce in nonces:
        read = uuid.UUID(nonce)
        assert str(read) == nonce
        assert read.version == 4
        assert read.variant == uuid.RFC_4122
    assert len({nonce[:4] for nonce in nonces}) > 900
