"""A peer on the bus as docs/architecture.md describes it: msgpack, BLAKE2b, XChaCha20-Poly1305.

It uses nothing of `shared/bus` and `shared/rpc` but the version, so it shows that a peer could be written in any
language.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt,
)
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt,
)

from shared.bus.envelope import VERSION
from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis


class Opened(NamedTuple):
    """A message that arrived."""

    channel: str
    version: int
    sender: str
    sequence: int
    message: Any


class MsgpackPeer:
    """Seals and opens messages; `listen` and `next` receive them."""

    def __init__(self, redis: Redis, bus_secret: str) -> None:
        self.boot_id = os.urandom(16).hex()
        self._key = blake2b(bus_secret.encode(), digest_size=32, person=b"latchkey.bus.v1").digest()
        self._sequence = 0
        self._redis = redis
        self._pubsub: Any = redis.pubsub()

    async def listen(self, *channels: str) -> None:
        """Subscribe to channels, which may be patterns."""
        await self._pubsub.psubscribe(*channels)
        for _ in channels:
            await self._pubsub.get_message(timeout=WAIT_SECONDS)

    async def next(self) -> Opened:
        """Return the next message."""
        message = None
        while message is None or message["type"] != "pmessage":
            message = await self._pubsub.get_message(timeout=WAIT_SECONDS)
        return self.open(message["channel"].decode(), message["data"])

    async def publish(self, channel: str, message: Sequence[object]) -> int:
        """Seal and publish a message; return how many received it."""
        heard: int = await self._redis.publish(channel, self.seal(channel, msgpack.packb(message)))
        return heard

    def seal(self, channel: str, body: bytes) -> bytes:
        """Seal an encoded message for a channel."""
        self._sequence += 1
        name = self.boot_id.encode()
        plain = bytes([len(name)]) + name + self._sequence.to_bytes(8, "big") + body
        nonce = os.urandom(24)
        version = bytes([VERSION])
        return version + nonce + encrypt(plain, version + channel.encode(), nonce, self._key)

    def open(self, channel: str, data: bytes) -> Opened:
        """Open and decode a message from a channel."""
        plain = decrypt(data[25:], data[:1] + channel.encode(), data[1:25], self._key)
        end = 1 + plain[0]
        sequence = int.from_bytes(plain[end : end + 8], "big")
        message = msgpack.unpackb(plain[end + 8 :])
        return Opened(channel, data[0], plain[1:end].decode(), sequence, message)

    async def aclose(self) -> None:
        """End the subscription."""
        await self._pubsub.aclose()
