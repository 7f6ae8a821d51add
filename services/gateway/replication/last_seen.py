"""Devices admitted since the last answered heartbeat, to report with the next one. Pure.

An entry is kept until a heartbeat that reported it is answered. Reports are idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from shared.protocol.limits import DISPLAY_NAME_LIMIT_CHARACTERS
from shared.protocol.platforms import VERSIONED_CLIENTS
from shared.rpc.reports import Seen

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import Session
    from shared.rpc.messages import ClientInfo

SEEN_PER_BEAT: Final = 500
"""The most devices that one heartbeat reports; the rest wait for the next one."""
SEEN_LIMIT: Final = 20_000
"""The most devices that are kept until reported; beyond it, the oldest is dropped."""
REPORTED_LIMIT_BEATS: Final = 64
"""How many heartbeats are remembered with what they reported."""

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Entry:
    at: float
    address: str
    client: ClientInfo


class LastSeen:
    """The last admission of each device that approval does not know of yet."""

    def __init__(self, *, seen_per_beat: int = SEEN_PER_BEAT, limit: int = SEEN_LIMIT) -> None:
        self._per_beat = seen_per_beat
        self._limit = limit
        self._unreported: dict[_Key, _Entry] = {}
        self._reported: dict[int, list[tuple[_Key, _Entry]]] = {}

    def __len__(self) -> int:
        return len(self._unreported)

    @property
    def behind(self) -> bool:
        """Whether more is unreported than fits in one heartbeat."""
        return len(self._unreported) > self._per_beat

    def record(self, session: Session, client: ClientInfo, at: float) -> None:
        """Record that a device was admitted; `at` is in monotonic seconds."""
        key = (session.device_id, session.role, session.method)
        self._unreported.pop(key, None)
        self._unreported[key] = _Entry(at, session.address, client)
        if len(self._unreported) > self._limit:
            del self._unreported[next(iter(self._unreported))]

    def take_unsent(self, beat_id: int, now: float) -> list[Seen]:
        """Return what this heartbeat reports, oldest first."""
        reported = list(islice(self._unreported.items(), self._per_beat))
        if reported:
            self._reported[beat_id] = reported
            if len(self._reported) > REPORTED_LIMIT_BEATS:
                del self._reported[next(iter(self._reported))]
        return [_seen(key, entry, now) for key, entry in reported]

    def acknowledge(self, beat_id: int) -> None:
        """Drop what an answered heartbeat reported, except devices admitted again since."""
        for key, entry in self._reported.pop(beat_id, ()):
            if self._unreported.get(key) is entry:
                del self._unreported[key]
        for older in [beat for beat in self._reported if beat < beat_id]:
            del self._reported[older]


def _seen(key: _Key, entry: _Entry, now: float) -> Seen:
    client = entry.client
    app = client.id if client.id in VERSIONED_CLIENTS else ""
    return Seen(
        *key,
        address=entry.address,
        age_ms=max(0, round((now - entry.at) * 1000)),
        name=client.display_name,
        app=app,
        platform=client.platform[:DISPLAY_NAME_LIMIT_CHARACTERS] if app else "",
    )
