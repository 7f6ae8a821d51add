"""Envelopes on the simulated bus: accepted and rejected like sealed ones, without cryptography."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shared.bus.channels import EVENTS
from shared.bus.envelope import MESSAGE_LIMIT_BYTES, OVERHEAD_LIMIT_BYTES, VERSION, Envelope, Opened
from shared.bus.errors import Rejected

if TYPE_CHECKING:
    from typing import Any


class Sealed(NamedTuple):
    """A simulated sealed message."""

    channel: str
    sender: bytes
    sequence: int
    body: bytes


class SimulatedEnvelope(Envelope):
    """The real one's rules about channels, senders and sequences; `test_seal.py` compares them."""

    def seal(self, channel: str, body: bytes) -> Any:
        """Attach channel, sender and sequence to a message."""
        if len(body) > MESSAGE_LIMIT_BYTES - OVERHEAD_LIMIT_BYTES:
            raise Rejected("oversized")
        self._sequence += 1
        return Sealed(channel, self._own_name, self._sequence, body)

    def open(self, channel: str, data: Any) -> Opened:
        """Open a message once, on its own channel; its own messages only from the event channel."""
        meant, name, sequence, body = data
        if meant != channel:
            raise Rejected("unsealed")
        sender = self._sender(name)
        if sender is self._own and channel != EVENTS:
            raise Rejected("self", sender.boot_id)
        if not sender.take(sequence):
            raise Rejected("replayed", sender.boot_id)
        return Opened(sender.boot_id, VERSION, sequence, body)
