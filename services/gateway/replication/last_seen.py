"""Devices admitted since the last answered heartbeat, to report with the next one. Pure.

An entry is kept until a heartbeat that reported it is answered. Reports are idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from shared.protocol.limits import DISPLAY_NAME_LIMIT_CHARACTERS
from shared.protocol.platforms import VERSIONED_CLIENTS
from shared.rpc.messages import Seen

if TYPE_CHECKING:
    from services.gateway.handshake.session import Session
    from shared.rpc.messages import ClientInfo

SEEN_PER_BEAT: Final = 500
"""The most devices that one heartbeat reports; the rest wait for the next one."""
SEEN_LIMIT: Final = 20_000
"""The most devices that are kept until reported; beyond it, the oldest is dropped."""
TOLD_LIMIT: Final = 64
"""How many heartbeats are remembered with what they reported."""

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Sighting:
    at: float
    address: str
    client: ClientInfo


class LastSeen:
    """The last admission of each device that approval does not know of yet."""

    def __init__(self, *, seen_per_beat: int = SEEN_PER_BEAT, limit: int = SEEN_LIMIT) -> None:
        self._most = seen_per_beat
        self._limit = limit
        self._untold: dict[_Key, _Sighting] = {}
        self._told: dict[int, list[tuple[_Key, _Sighting]]] = {}

    def __len__(self) -> int:
        return len(self._untold)

    @property
    def behind(self) -> bool:
        """Whether more is unreported than fits in one heartbeat."""
        return len(self._untold) > self._most

    def record(self, session: Session, client: ClientInfo, at: float) -> None:
        """Record that a device was admitted; `at` is in monotonic seconds."""
        key = (session.device_id, session.role, session.method)
        self._untold.pop(key, None)
        self._untold[key] = _Sighting(at, session.address, client)
        if len(self._untold) > self._limit:
            del self._untold[next(iter(self._untold))]

    def take_unsent(self, beat_id: int, now: float) -> list[Seen]:
        """Return what this heartbeat reports, oldest first."""
        told = list(islice(self._untold.items(), self._most))
        if told:
            self._told[beat_id] = told
            if len(self._told) > TOLD_LIMIT:
                del self._told[next(iter(self._told))]
        return [_seen(key, one, now) for key, one in told]

    def acknowledge(self, beat_id: int) -> None:
        """Drop what an answered heartbeat reported, except devices admitted again since."""
        for key, one in self._told.pop(beat_id, ()):
            if self._untold.get(key) is one:
                del self._untold[key]
        for older in [one for one in self._told if one < beat_id]:
            del self._told[older]


def _seen(key: _Key, one: _Sighting, now: float) -> Seen:
    client = one.client
    app = client.id if client.id in VERSIONED_CLIENTS else ""
    return Seen(
        *key,
        address=one.address,
        age_ms=max(0, round((now - one.at) * 1000)),
        name=client.display_name,
        app=app,
        platform=client.platform[:DISPLAY_NAME_LIMIT_CHARACTERS] if app else "",
    )
