"""Which devices were let in since the last answered beat: told with the next one. Pure.

Nothing is forgotten before a beat that told it was answered; what is told twice does no harm.
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
"""How many devices one beat tells of at most; the rest wait for the next."""
SEEN_LIMIT: Final = 20_000
"""How many devices wait to be told of at most; the oldest go first."""
TOLD_LIMIT: Final = 64
"""How many beats are remembered with what they told."""

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Sighting:
    at: float
    address: str
    client: ClientInfo


class LastSeen:
    """The last time each device was let in, as far as approval does not know it yet."""

    def __init__(self, *, seen_per_beat: int = SEEN_PER_BEAT, limit: int = SEEN_LIMIT) -> None:
        self._most = seen_per_beat
        self._limit = limit
        self._untold: dict[_Key, _Sighting] = {}
        self._told: dict[int, list[tuple[_Key, _Sighting]]] = {}

    def __len__(self) -> int:
        return len(self._untold)

    @property
    def behind(self) -> bool:
        """Whether more is to be told than one beat takes."""
        return len(self._untold) > self._most

    def record(self, session: Session, client: ClientInfo, at: float) -> None:
        """Note that a device was let in; `at` is a point in monotonic time."""
        key = (session.device_id, session.role, session.method)
        self._untold.pop(key, None)
        self._untold[key] = _Sighting(at, session.address, client)
        if len(self._untold) > self._limit:
            del self._untold[next(iter(self._untold))]

    def take_unsent(self, beat_id: int, now: float) -> list[Seen]:
        """Return what this beat tells, the oldest first."""
        told = list(islice(self._untold.items(), self._most))
        if told:
            self._told[beat_id] = told
            if len(self._told) > TOLD_LIMIT:
                del self._told[next(iter(self._told))]
        return [_seen(key, one, now) for key, one in told]

    def acknowledge(self, beat_id: int) -> None:
        """Forget what an answered beat told, unless the device came again meanwhile."""
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
