"""Refused attempts, and the memory that keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from shared.protocol import refusals
from shared.rpc.messages import (
    ClientInfo,
    Position,
)
from tests.support.attempts import (
    REMOTE,
)

if TYPE_CHECKING:
    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import RequestInfo
    from services.gateway.replication.recent_refusals import (
        RecentRefusals,
    )
    from shared.protocol.refusals import Refusal

NOW = Position(1, "tag")
STALE = refusals.SIGNATURE_EXPIRED


class Attempt:
    """A minimal attempt that is passed as a handshake."""

    def __init__(self, device_id: str = "", *, proven: bool = False, name: str = "") -> None:
        self.device_id = device_id
        self.proven = proven
        self.client = ClientInfo("cli", "cli", "1", "linux", "", name) if name else None


def device(number: int) -> str:
    return f"{number:064x}"


def at(address: str) -> RequestInfo:
    return structs.replace(REMOTE, address=address)


def note(
    recent: RecentRefusals,
    who: Attempt | Handshake,
    refusal: Refusal = STALE,
    *,
    address: str = "203.0.113.7",
    when: float = 0.0,
) -> None:
    recent.note(who, at(address), refusal, when)  # type: ignore[arg-type]


def reported(recent: RecentRefusals, address: str) -> set[int]:
    """Report everything; returns the devices of one address."""
    found: set[int] = set()
    for heartbeat_id in range(1, 1000):
        reports = recent.report(heartbeat_id, 0.0)
        if not reports:
            return found
        found |= {int(report.device_id, 16) for report in reports if report.address == address}
        recent.answered(heartbeat_id)
    raise AssertionError("it never ends")
