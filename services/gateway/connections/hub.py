"""The connections of this replica: who waits, who is in, who is being closed.

One sweep serves all deadlines: no connection has a task or a timer of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from services.gateway.connections.close_queue import CloseQueue
from services.gateway.connections.connection import Connection
from services.gateway.connections.deadlines import SWEEP_SECONDS, due, share_due
from services.gateway.connections.pending import PendingHandshakes
from services.gateway.websocket.frames import PING, close_frame, text_frame
from shared.protocol.closing import CloseCode
from shared.protocol.events import numbered, shutdown, tick
from shared.protocol.limits import (
    BUFFERED_LIMIT_BYTES,
    CLOSING_SECONDS,
    HANDSHAKE_DEADLINE_SECONDS,
    PING_SECONDS,
    PROTOCOLS,
    TICK_SECONDS,
)
from shared.protocol.scopes import PAIRING, READ, covers
from shared.rpc.messages import EVERY_ROLE, Present

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from services.gateway.handshake.session import Session
    from services.gateway.replication.presence import Presence
    from shared.clock import Clock
    from shared.protocol.events import Broadcast
    from shared.rpc.messages import ClientInfo

REMOVED_REASON: Final = "device removed"
"""Why connections are closed whose device was removed, rotated or revoked (4001)."""
RESTART_REASON: Final = "service restart"
"""Why connections are closed when this replica leaves (1012)."""
HISTORY_LOST_REASON: Final = "history lost"
"""Why connections are closed whose device may have been revoked unheard (1012)."""
LEASE_LOST_REASON: Final = "approval unavailable"
"""Why connections are closed when the lease ends (1013): nobody could say who was revoked."""
_PING_BUCKETS: Final = int(PING_SECONDS / SWEEP_SECONDS)
_TICK_BUCKETS: Final = int(TICK_SECONDS / SWEEP_SECONDS)


class Hub:
    """All connections of this replica.

    Whoever is in is served, and told anything, only while the lease runs (R7): `leased` says so.
    """

    def __init__(
        self,
        clock: Clock,
        presence: Presence,
        *,
        leased: Callable[[], bool],
        limit: int,
        preauth_limit_per_address: int,
    ) -> None:
        self._clock = clock
        self._presence = presence
        self._leased = leased
        self._limit = limit
        self._opened = 0
        self._all: set[Connection] = set()
        self._strangers = PendingHandshakes(limit_per_address=preauth_limit_per_address)
        self._closing: dict[Connection, None] = {}
        self._by_device: dict[str, set[Connection]] = {}
        self._pings: list[set[Connection]] = [set() for _ in range(_PING_BUCKETS)]
        self._ticks: list[set[Connection]] = [set() for _ in range(_TICK_BUCKETS)]
        self._audiences: dict[str, set[Connection]] = {PAIRING: set(), READ: set()}
        self._departures = CloseQueue(self.close)
        self._sweeps = 0
        self._emptied: asyncio.Future[None] | None = None
        self._drained_at: float | None = None

    def __len__(self) -> int:
        return len(self._all)

    @property
    def now(self) -> float:
        """The time that deadlines are held against: monotonic seconds."""
        return self._clock.monotonic()

    @property
    def pending(self) -> int:
        """How many are not admitted yet."""
        return len(self._strangers)

    def pending_of(self, limit_key: str) -> int:
        """Return how many of an address are not admitted yet."""
        return self._strangers.count(limit_key)

    @property
    def admitted(self) -> int:
        """How many are in."""
        return sum(len(bucket) for bucket in self._pings)

    def limit_reached(self, limit_key: str) -> str | None:
        """Say why no further socket from this address is taken, or None."""
        if self._strangers.is_full(limit_key):
            return "Too many unauthenticated sockets"
        if len(self._all) >= self._limit:
            return "Too many connections"
        return None

    def open(self, transport: asyncio.Transport, limit_key: str) -> Connection:
        """Take in a socket that was just upgraded; its handshake deadline runs from now."""
        self._opened += 1
        deadline = self._clock.monotonic() + HANDSHAKE_DEADLINE_SECONDS
        connection = Connection(self._opened, transport, limit_key, deadline)
        self._all.add(connection)
        self._strangers.add(connection)
        return connection

    def admit(self, connection: Connection, session: Session, client: ClientInfo) -> None:
        """Count a connection among those that are in; `client` is what it says that it is."""
        self._strangers.discard(connection)
        connection.session = session
        if session.device_id:
            self._by_device.setdefault(session.device_id, set()).add(connection)
            self._presence.add(
                Present(connection.number, session.device_id, session.role, self._clock.wall_ms())
            )
            self._presence.sightings.record(session, client, self._clock.monotonic())
        self._pings[connection.number % _PING_BUCKETS].add(connection)
        self._ticks[connection.number % _TICK_BUCKETS].add(connection)
        if session.role == "operator":
            for scope, audience in self._audiences.items():
                if covers(session.scopes, scope, session.role):
                    audience.add(connection)

    def close(self, connection: Connection, code: int, reason: str, *, told: bytes = b"") -> None:
        """Send a close frame; a second later the transport is gone, whatever the peer does.

        `told` are frames to go with it, in the same write.
        """
        if connection.closed_with is not None:
            return
        connection.closed_with = (code, reason)
        if not connection.transport.is_closing():
            connection.transport.write(told + close_frame(code, reason))
        self._leave(connection)

    def reply_close(self, connection: Connection, code: int) -> None:
        """Answer the peer's close frame, unless ours went first, and end the transport."""
        self.close(connection, code, "")
        connection.transport.close()

    def serves(self, connection: Connection) -> bool:
        """Say whether a socket is served; without a lease, one that is in is closed instead."""
        if connection.closing:
            return False
        if connection.session is not None and not self._leased():
            self.close(connection, CloseCode.TRY_AGAIN, LEASE_LOST_REASON)
            return False
        return True

    def close_if_slow(self, connection: Connection) -> None:
        """Close a peer that asks for more than it reads."""
        if connection.transport.get_write_buffer_size() > BUFFERED_LIMIT_BYTES:
            self.close(connection, CloseCode.TRY_AGAIN, "slow consumer")

    def lost(self, connection: Connection) -> None:
        """Forget a connection whose transport is gone."""
        if connection not in self._closing:
            self._leave(connection)
        self._closing.pop(connection, None)
        self._all.discard(connection)
        if not self._all and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def respond(self, connection: Connection, call_id: str, response: bytes) -> None:
        """Send what came of a call; one that ended its own connection hears that, and no more."""
        if not self._leased():
            self.close(connection, CloseCode.TRY_AGAIN, LEASE_LOST_REASON)
            return
        if connection.ended_by != call_id:
            connection.send(response)
            return
        self.close(connection, CloseCode.DEVICE_REMOVED, REMOVED_REASON, told=text_frame(response))

    def audience(self, scope: str) -> int:
        """Return how many hear what is told to this scope."""
        return len(self._audiences[scope])

    def broadcast(self, told: Broadcast) -> None:
        """Tell every connection that may hear it, each with its own number."""
        if not self._leased():
            self.close_admitted(CloseCode.TRY_AGAIN, LEASE_LOST_REASON)
            return
        audience = self._admitted() if told.scope is None else list(self._audiences[told.scope])
        if not audience:
            return
        head = told.head()
        for connection in audience:
            session = connection.session
            if session is None or session.protocol not in told.protocols:
                continue
            self.close_if_slow(connection)
            if not connection.closing:
                connection.send(numbered(head, connection.next_sequence()))

    def close_device(self, device_id: str, roles: Collection[str], by_call: str) -> int:
        """Close what a device has open in these roles (`*`: any) with 4001; returns how many.

        A connection whose own call did this is served no more, and closed once that is answered.
        """
        found, callers = [], 0
        for connection in self._by_device.get(device_id, ()):
            if EVERY_ROLE in roles or (connection.session and connection.session.role in roles):
                if by_call in connection.calls:
                    connection.condemned = True
                    connection.ended_by = by_call
                    callers += 1
                else:
                    found.append(connection)
        return callers + self._departures.close_now(found, CloseCode.DEVICE_REMOVED, REMOVED_REASON)

    @property
    def draining(self) -> bool:
        """Whether this replica leaves."""
        return self._drained_at is not None

    def drain(self, until: float) -> None:
        """Tell everybody who is in that this replica leaves, and close them, spread until then.

        `until` is a point in monotonic time. Whoever is served meanwhile is served as always.
        """
        for protocol in PROTOCOLS:
            self.broadcast(shutdown(protocol))
        self._drained_at = until
        self._close_drained(self._clock.monotonic())

    def close_admitted(self, code: int, reason: str) -> int:
        """Close every connection that is in; returns how many."""
        return self._departures.close_now(self._admitted(), code, reason)

    def mark_closing(self, until: float) -> None:
        """Serve nobody any more who is in by now; close them spread over the time until then.

        `until` is a point in monotonic time.
        """
        self._departures.schedule(
            self._admitted(), CloseCode.RESTART, HISTORY_LOST_REASON, until=until
        )

    async def empty(self) -> None:
        """Return once no connection is left."""
        if self._all:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def sweep(self) -> None:
        """Do what is due, four times a second: deadlines, pings, ticks."""
        now = self._clock.monotonic()
        for connection in self._strangers.due(now):
            self.close(connection, CloseCode.NORMAL, "")
        silent = due(self._closing, now)
        for connection in silent:
            del self._closing[connection]
        self._departures.abort(silent)
        self._departures.sweep(now)
        if self._drained_at is not None:
            self._close_drained(now)
        for connection in list(self._pings[self._sweeps % _PING_BUCKETS]):
            self._ping(connection)
        bucket = self._ticks[self._sweeps % _TICK_BUCKETS]
        if bucket:
            head = tick(self._clock.wall_ms()).head()
            for connection in list(bucket):
                self._tick(connection, head)
        self._sweeps += 1

    def _admitted(self) -> list[Connection]:
        return [connection for bucket in self._pings for connection in bucket]

    def _close_drained(self, now: float) -> None:
        """Close the share of those who are in that is due; at the end, the strangers as well."""
        if self._drained_at is None:
            return
        if now >= self._drained_at:
            self._departures.close_now(list(self._all), CloseCode.RESTART, RESTART_REASON)
            return
        found = self._admitted()
        for connection in found[: share_due(len(found), now, self._drained_at)]:
            self.close(connection, CloseCode.RESTART, RESTART_REASON)

    def _ping(self, connection: Connection) -> None:
        if connection.pinged:
            self._leave(connection)
            connection.transport.abort()
        else:
            connection.pinged = True
            connection.transport.write(PING)

    def _tick(self, connection: Connection, head: bytes) -> None:
        self.close_if_slow(connection)
        if not connection.closing:
            connection.send(numbered(head, connection.next_sequence()))

    def _leave(self, connection: Connection) -> None:
        """Take a connection out of all but the closing queue, and put it there."""
        self._strangers.discard(connection)
        session = connection.session
        if session is not None and session.device_id in self._by_device:
            live = self._by_device[session.device_id]
            live.discard(connection)
            if not live:
                del self._by_device[session.device_id]
            self._presence.remove(connection.number)
        self._pings[connection.number % _PING_BUCKETS].discard(connection)
        self._ticks[connection.number % _TICK_BUCKETS].discard(connection)
        for audience in self._audiences.values():
            audience.discard(connection)
        connection.deadline = self._clock.monotonic() + CLOSING_SECONDS
        self._closing[connection] = None
