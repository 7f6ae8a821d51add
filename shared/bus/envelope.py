"""Seals messages: without BUS_SECRET, none can be read or forged.

    version (1 byte) | nonce (24) | XChaCha20-Poly1305( length (1) | sender | sequence (8) | body )

Version and channel are authenticated as well. This outer form never changes, so that messages of
another release can be told from forged ones; the version describes the inner form. Changing the
inner form takes two releases: the first reads it, the second writes it.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_ABYTES,
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError

from shared.bus.channels import EVENTS
from shared.bus.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

VERSION: Final = 2
OLDEST_READABLE_VERSION: Final = 2
"""The messages of version 1 had other names, so they cannot be read."""
READABLE_VERSIONS: Final = frozenset(range(OLDEST_READABLE_VERSION, VERSION + 1))

MESSAGE_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a sealed message, checked before decryption."""
OVERHEAD_LIMIT_BYTES: Final = 256
"""Maximum number of bytes that sealing adds."""
WINDOW_MESSAGES: Final = 1024
"""How far behind a sender's newest message an older one is still accepted."""
SENDERS_LIMIT: Final = 4096
"""Maximum number of senders remembered; the least recently seen is forgotten first."""

_NONCE_BYTES: Final = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_SEALED_FROM: Final = 1 + _NONCE_BYTES
_SEQUENCE_BYTES: Final = 8
_SHORTEST: Final = _SEALED_FROM + crypto_aead_xchacha20poly1305_ietf_ABYTES
_WINDOW_MASK: Final = (1 << WINDOW_MESSAGES) - 1
_BOOT_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,64}")


class Opened(msgspec.Struct, frozen=True, gc=False):
    """An authenticated message: sender, version, sequence number and body."""

    sender: str
    version: int
    sequence: int
    body: bytes


class Envelope:
    """Seals outgoing messages and opens incoming ones, each at most once.

    The first of `secrets` seals and all of them open, so that BUS_SECRET can be changed without an
    outage. `version` is the version written, and `readable` are those read; tests use them to
    imitate other releases.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        boot_id: str,
        version: int = VERSION,
        readable: Collection[int] = READABLE_VERSIONS,
    ) -> None:
        """Raise ValueError for no secret, or a boot id that is invalid in a channel name."""
        name = boot_id.encode()
        if not _BOOT_ID.fullmatch(name):
            msg = "a boot id is 1 to 64 of A-Z, a-z, 0-9, _ and -"
            raise ValueError(msg)
        self._keys = tuple(_derive(secret) for secret in secrets)
        if not self._keys:
            msg = "at least one secret is needed"
            raise ValueError(msg)
        self.boot_id = boot_id
        self._version = bytes((version,))
        self._readable = readable
        self._prefix = bytes((len(name),)) + name
        self._sequence = 0
        self._own = _Sender(boot_id)
        self._senders: OrderedDict[bytes, _Sender] = OrderedDict()
        self._own_name = name

    def seal(self, channel: str, body: bytes) -> bytes:
        """Seal `body` for `channel` under the next sequence; raises Rejected("oversized")."""
        if len(body) > MESSAGE_LIMIT_BYTES - OVERHEAD_LIMIT_BYTES:
            raise Rejected("oversized")
        self._sequence += 1
        nonce = os.urandom(_NONCE_BYTES)
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
            self._prefix + self._sequence.to_bytes(_SEQUENCE_BYTES, "big") + body,
            self._version + channel.encode(),
            nonce,
            self._keys[0],
        )
        return self._version + nonce + sealed

    def open(self, channel: str, data: bytes) -> Opened:
        """Open a message from `channel`; raises Rejected for one that must not be handled.

        A process that has just started has seen no sequence numbers, so an attacker with access to
        Redis can replay old events to it: events must be harmless when they are old. The other
        channels are new with each process.
        """
        if len(data) > MESSAGE_LIMIT_BYTES:
            raise Rejected("oversized")
        if len(data) < _SHORTEST:
            raise Rejected("unsealed")
        plain = self._decrypt(data, data[:1] + channel.encode())
        version = data[0]
        if version not in self._readable:
            raise Rejected("version")
        if not plain:
            raise Rejected("malformed")
        name_end = 1 + plain[0]
        body_from = name_end + _SEQUENCE_BYTES
        if len(plain) < body_from:
            raise Rejected("malformed")
        sender = self._sender(plain[1:name_end])
        if sender is self._own and channel != EVENTS:
            raise Rejected("self", sender.boot_id)
        sequence = int.from_bytes(plain[name_end:body_from], "big")
        if not sender.take(sequence):
            raise Rejected("replayed", sender.boot_id)
        return Opened(sender.boot_id, version, sequence, plain[body_from:])

    def _decrypt(self, data: bytes, associated: bytes) -> bytes:
        nonce = data[1:_SEALED_FROM]
        sealed = data[_SEALED_FROM:]
        for key in self._keys:
            try:
                return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, associated, nonce, key)
            except CryptoError:
                continue
        raise Rejected("unsealed")

    def _sender(self, name: bytes) -> _Sender:
        # Always keep our own window: approval treats its own events as a proof of life.
        if name == self._own_name:
            return self._own
        sender = self._senders.get(name)
        if sender is not None:
            self._senders.move_to_end(name)
            return sender
        if not _BOOT_ID.fullmatch(name):
            raise Rejected("malformed")
        sender = self._senders[name] = _Sender(name.decode())
        if len(self._senders) > SENDERS_LIMIT:
            self._senders.popitem(last=False)
        return sender


class _Sender:
    """The sequence numbers seen of one sender: the newest, and a bitmap of earlier ones."""

    __slots__ = ("_newest", "_seen", "boot_id")

    def __init__(self, boot_id: str) -> None:
        self.boot_id = boot_id
        self._newest = -1
        self._seen = 0

    def take(self, sequence: int) -> bool:
        """Record a sequence number; return whether it is new."""
        ahead = sequence - self._newest
        if ahead > 0:
            shifted = self._seen << ahead if ahead < WINDOW_MESSAGES else 0
            self._seen = (shifted & _WINDOW_MASK) | 1
            self._newest = sequence
            return True
        if -ahead >= WINDOW_MESSAGES or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True


def _derive(secret: str) -> bytes:
    """Derive a key from a secret with BLAKE2b, personalised for this purpose."""
    return blake2b(
        secret.encode(),
        digest_size=crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
        person=b"latchkey.bus.v1",
    ).digest()
