"""The events that the gateway sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.protocol.frames import encode
from shared.protocol.limits import PROTOCOLS
from shared.protocol.refusals import PROTOCOL_3

if TYPE_CHECKING:
    from collections.abc import Sequence

CHALLENGE: Final = "connect.challenge"
DEVICE_CHANGED: Final = "device.pair.changed"
DEVICE_REQUESTED: Final = "device.pair.requested"
DEVICE_RESOLVED: Final = "device.pair.resolved"
SETUP_COMPLETED: Final = "device.pair.setup.completed"
SETUP_UNCERTAIN: Final = "device.pair.setup.deliveryUncertain"
PRESENCE: Final = "presence"
SHUTDOWN: Final = "shutdown"
TICK: Final = "tick"


@dataclass(frozen=True, slots=True)
class Broadcast:
    """An event for all connections that hold `scope` (None: every connection).

    `payload` is JSON. `presence_version` is the version of the presence list, for events that
    report one.
    """

    name: str
    payload: bytes
    scope: str | None = None
    protocols: tuple[int, ...] = PROTOCOLS
    presence_version: int | None = None

    def head(self) -> bytes:
        """Return the frame up to the sequence number, which each connection counts for itself."""
        version = b""
        if self.presence_version is not None:
            version = b'"stateVersion":{"presence":%d,"health":0},' % self.presence_version
        return b'{"type":"event","event":"%s","payload":%s,%s"seq":' % (
            self.name.encode(),
            self.payload,
            version,
        )


def numbered(head: bytes, seq: int) -> bytes:
    """Complete a frame for one connection; `seq` numbers the events sent to it, from 1."""
    return b"%s%d}" % (head, seq)


def unnumbered(head: bytes) -> bytes:
    """Complete a frame for a connection whose numbers are another gateway's."""
    return b"%s}" % head.removesuffix(b',"seq":')


def events_of(protocol: int) -> Sequence[str]:
    """Return the names of all events that exist in a protocol version."""
    later = (DEVICE_CHANGED, SETUP_COMPLETED, SETUP_UNCERTAIN) if protocol != PROTOCOL_3 else ()
    return sorted((CHALLENGE, DEVICE_REQUESTED, DEVICE_RESOLVED, PRESENCE, SHUTDOWN, TICK, *later))


def challenge(nonce: str, wall_ms: int) -> bytes:
    """Encode `connect.challenge` with this connection's nonce and the gateway's wall clock."""
    return (
        f'{{"type":"event","event":"{CHALLENGE}","payload":{{"nonce":"{nonce}","ts":{wall_ms}}}}}'
    ).encode()


def tick(wall_ms: int) -> Broadcast:
    """Return a `tick` event."""
    return Broadcast(TICK, b'{"ts":%d}' % wall_ms)


def shutdown(protocol: int) -> Broadcast:
    """Return a `shutdown` event in the form of one protocol version."""
    payload: dict[str, object] = {"reason": "gateway stopping"}
    if protocol == PROTOCOL_3:
        payload["restartExpectedMs"] = None
    return Broadcast(SHUTDOWN, encode(payload), protocols=(protocol,))
