"""The connections of this replica: unauthenticated, admitted and closing ones.

One sweep handles all deadlines: no connection has a task or a timer of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from services.gateway.connections.close_queue import CloseQueue
from services.gateway.connections.connection import Connection
from services.gateway.connections.deadlines import SWEEP_SECONDS, due, share_due
from services.gateway.connections.held import HeldConnections, HeldLimits, HoldEnd
from services.gateway.connections.places import OF_DEVICE, Places
from services.gateway.websocket.frames import PING, close_frame, text_frame
from shared.addresses.holders import holders
from shared.clock import NS_PER_MS
from shared.protocol.closing import CloseCode
from shared.protocol.events import numbered, shutdown, tick, unnumbered
from shared.protocol.limits import (
    BUFFERED_LIMIT_BYTES,
    CLOSING_SECONDS,
    HANDSHAKE_DEADLINE_SECONDS,
    PING_SECONDS,
    PROTOCOLS,
    TICK_SECONDS,
)
from shared.protocol.scopes import PAIRING, READ, covers
from shared.rpc.messages import EVERY_ROLE
from shared.rpc.reports import Present

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from services.gateway.connections.connection import Backend
    from services.gateway.connections.held import Held
    from services.gateway.connections.places import Limit, PlaceLimits
    from services.gateway.handshake.outcome import Session
    from services.gateway.replication.presence import Presence
    from shared.clock import Clock
    from shared.protocol.events import Broadcast
    from shared.rpc.messages import ClientInfo

REMOVED_REASON: Final = "device removed"
"""Close reason (4001) for connections whose device was removed, rotated or revoked."""
RESTART_REASON: Final = "service restart"
"""Close reason (1012) when this replica drains."""
HISTORY_LOST_REASON: Final = "history lost"
"""Close reason (1012) when a revocation may have been missed because history was lost."""
LEASE_LOST_REASON: Final = "approval unavailable"
"""Close reason (1013) when the lease ends: revocations could go unnoticed from then on."""
_PING_BUCKETS: Final = int(PING_SECONDS / SWEEP_SECONDS)
_TICK_BUCKETS: Final = int(TICK_SECONDS / SWEEP_SECONDS)


class Hub:
    """All connections of this replica. The length includes the pipes to the upstream.

    Admitted connections are served and sent to only while `leased` returns True (R7).
    """

    def __init__(
        self,
        clock: Clock,
        presence: Presence,
        *,
        leased: Callable[[], bool],
        limits: PlaceLimits,
        hold_seconds: float = 0.0,
    ) -> None:
        self._clock = clock
        self._presence = presence
        self._leased = leased
        self._opened = 0
        self._all: set[Connection] = set()
        self.places: Final = Places(limits)
        self.held: Final = HeldConnections(HeldLimits.within(limits, hold_seconds))
        self._pending: dict[Connection, None] = {}
        """The unauthenticated connections, in the order of their deadlines."""
        self._closing: dict[Connection, None] = {}
        self._pings: list[set[Connection]] = [set() for _ in range(_PING_BUCKETS)]
        self._ticks: list[set[Connection]] = [set() for _ in range(_TICK_BUCKETS)]
        self._audiences: dict[str, set[Connection]] = {PAIRING: set(), READ: set()}
        self._close_queue = CloseQueue(self.close)
        self._sweeps = 0
        self._emptied: asyncio.Future[None] | None = None
        self._drained_at: float | None = None

    def __len__(self) -> int:
        return len(self._all) + self.places.pipes

    @property
    def now(self) -> float:
        """The current time that deadlines are compared with, in monotonic seconds."""
        return self._clock.monotonic()

    @property
    def pending(self) -> int:
        """The number of unauthenticated connections."""
        return len(self._pending)

    @property
    def admitted(self) -> int:
        """The number of admitted connections."""
        return sum(len(bucket) for bucket in self._pings)

    def make_room(self, limit_key: str, *, is_exempt: bool) -> Limit | None:
        """Displace connections that give way to a newcomer; return which limit rejects it."""
        places = self.places
        while (limit := places.limit_reached(limit_key, is_exempt=is_exempt)) is not None:
            if self.held.give_way(limit_key, limit):
                continue
            displaced = places.displaced_by(limit_key, limit)
            if displaced is None:
                return limit
            self._displace(displaced, limit)
        return None

    def open(
        self, transport: asyncio.Transport, limit_key: str, *, trusted_local: bool = False
    ) -> Connection:
        """Register a socket that was just upgraded, and start its handshake deadline."""
        if self._closing and len(self._all) >= self.places.open_limit:
            oldest = next(iter(self._closing))
            del self._closing[oldest]
            oldest.transport.abort()
        self._opened += 1
        deadline = self._clock.monotonic() + HANDSHAKE_DEADLINE_SECONDS
        connection = Connection(
            self._opened, transport, limit_key, holders(limit_key), deadline, trusted_local
        )
        self._all.add(connection)
        self._pending[connection] = None
        self.places.take(connection)
        return connection

    def hold(self, held: Held) -> bool:
        """Hold an unauthenticated connection, beyond its deadline; return whether it is held."""
        if is_held := self.held.hold(held):
            self._pending.pop(held.connection, None)
        return is_held

    def admit(
        self,
        connection: Connection,
        session: Session,
        client: ClientInfo,
        backend: Backend | None = None,
    ) -> None:
        """Mark a connection as admitted; `client` is the client's own description.

        One with a backend gets ticks and presence from there, and no events before `unmute`. If
        its device has too many connections, the oldest is closed: it may be dead.
        """
        number, device_id = connection.number, session.device_id
        self._pending.pop(connection, None)
        displaced = self.places.displaced_by_device(device_id)
        if displaced is not None:
            self._displace(displaced, OF_DEVICE)
        connection.session = session
        self.places.admit(connection, device_id)
        if device_id:
            since_ms = self._clock.wall_ns() // NS_PER_MS
            self._presence.add(Present(number, device_id, session.role, since_ms))
            self._presence.last_seen.record(session, client, self._clock.monotonic())
        self._pings[number % _PING_BUCKETS].add(connection)
        if backend is not None:
            connection.backend, connection.muted = backend, True
            return
        self._ticks[number % _TICK_BUCKETS].add(connection)
        if session.role == "operator":
            for scope, audience in self._audiences.items():
                if covers(session.scopes, scope, session.role):
                    audience.add(connection)

    def unmute(self, connection: Connection) -> None:
        """Send events about pairing to a relayed connection from now on, if it may see them."""
        session = connection.session
        connection.muted = False
        if session is None or connection.closing or session.role != "operator":
            return
        if covers(session.scopes, PAIRING, session.role):
            self._audiences[PAIRING].add(connection)

    def close(self, connection: Connection, code: int, reason: str, *, frames: bytes = b"") -> None:
        """Send a close frame; the sweep ends the transport if the peer does not.

        The peer has CLOSING_SECONDS to reply. `frames` are sent before the close frame, in the
        same write.
        """
        if connection.closed_with is not None:
            return
        connection.closed_with = (code, reason)
        if not connection.transport.is_closing():
            connection.transport.write(frames + close_frame(code, reason))
        self._move_to_closing(connection)

    def reply_close(self, connection: Connection, code: int) -> None:
        """Reply to the peer's close frame unless ours was sent first, then close the transport."""
        self.close(connection, code, "")
        connection.transport.close()

    def serves(self, connection: Connection) -> bool:
        """Return whether to serve a connection; close an admitted one if the lease has ended."""
        if connection.stopped or connection.transport.is_closing():
            return False
        if connection.session is not None and not self._leased():
            self.close(connection, CloseCode.TRY_AGAIN, LEASE_LOST_REASON)
            return False
        return True

    def close_if_slow(self, connection: Connection) -> None:
        """Close a connection whose peer reads too slowly."""
        if connection.transport.get_write_buffer_size() > BUFFERED_LIMIT_BYTES:
            self.close(connection, CloseCode.TRY_AGAIN, "slow consumer")

    def lost(self, connection: Connection) -> None:
        """Remove a connection whose transport is closed."""
        if connection not in self._closing:
            self._move_to_closing(connection)
        self._closing.pop(connection, None)
        self._all.discard(connection)
        if not self._all and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def respond(self, connection: Connection, call_id: str, response: bytes) -> None:
        """Send the response of a call; then close the connection if the call revoked its device."""
        if not self._leased():
            self.close(connection, CloseCode.TRY_AGAIN, LEASE_LOST_REASON)
            return
        if connection.ended_by != call_id:
            connection.send(response)
            return
        self.close(
            connection, CloseCode.DEVICE_REMOVED, REMOVED_REASON, frames=text_frame(response)
        )

    def audience(self, scope: str) -> int:
        """Return how many connections receive broadcasts for a scope."""
        return len(self._audiences[scope])

    def broadcast(self, event: Broadcast) -> None:
        """Send a broadcast to all permitted connections, each with its own sequence number."""
        if not self._leased():
            self.close_admitted(CloseCode.TRY_AGAIN, LEASE_LOST_REASON)
            return
        audience = self._admitted() if event.scope is None else list(self._audiences[event.scope])
        if not audience:
            return
        head = event.head()
        for connection in audience:
            session = connection.session
            if session is None or connection.muted or session.protocol not in event.protocols:
                continue
            self.close_if_slow(connection)
            if connection.closing:
                continue
            if connection.backend is None:
                connection.send(numbered(head, connection.next_sequence()))
            else:  # the numbers that it sees are the upstream's
                connection.send(unnumbered(head))

    def close_device(self, device_id: str, roles: Collection[str], by_call: str) -> int:
        """Close a device's connections in these roles (`*`: any) with 4001; return their number.

        The connection that made the call `by_call` is no longer served, and is closed once the
        response to that call is sent.
        """
        found, callers = [], 0
        for connection in self.places.of_device(device_id):
            if EVERY_ROLE in roles or (connection.session and connection.session.role in roles):
                if by_call in connection.calls:
                    connection.stopped = True
                    connection.ended_by = by_call
                    callers += 1
                else:
                    found.append(connection)
        return callers + self._close_queue.close_now(
            found, CloseCode.DEVICE_REMOVED, REMOVED_REASON
        )

    @property
    def draining(self) -> bool:
        """Whether this replica is draining."""
        return self._drained_at is not None

    def drain(self, until: float) -> None:
        """Broadcast the shutdown, and close all connections evenly until `until`.

        `until` is in monotonic seconds. A connection is served as usual until it is closed.
        """
        for protocol in PROTOCOLS:
            self.broadcast(shutdown(protocol))
        self._drained_at = until
        self.held.stop()
        self._close_drained(self._clock.monotonic())

    def close_admitted(self, code: int, reason: str) -> int:
        """Close every admitted connection; return how many were newly queued."""
        return self._close_queue.close_now(self._admitted(), code, reason)

    def mark_closing(self, until: float) -> None:
        """Stop serving all admitted connections, and close them evenly until `until`.

        `until` is in monotonic seconds. Held clients have to ask again.
        """
        self.held.end_all(HoldEnd.UNAVAILABLE)
        self._close_queue.schedule(
            self._admitted(), CloseCode.RESTART, HISTORY_LOST_REASON, until=until
        )

    async def empty(self) -> None:
        """Return once no connection is left."""
        if self._all:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def sweep(self) -> None:
        """Process deadlines, pings and ticks; called four times a second."""
        now = self._clock.monotonic()
        for connection in due(self._pending, now):
            self.close(connection, CloseCode.NORMAL, "")
        self.held.sweep(now)
        silent = due(self._closing, now)
        for connection in silent:
            del self._closing[connection]
        self._close_queue.abort(silent)
        self._close_queue.sweep(now)
        if self._drained_at is not None:
            self._close_drained(now)
        for connection in list(self._pings[self._sweeps % _PING_BUCKETS]):
            self._ping(connection)
        bucket = self._ticks[self._sweeps % _TICK_BUCKETS]
        if bucket:
            head = tick(self._clock.wall_ns() // NS_PER_MS).head()
            for connection in list(bucket):
                self._tick(connection, head)
        self._sweeps += 1

    def _displace(self, connection: Connection, limit: Limit) -> None:
        """Close a connection so that another one has a place."""
        self.places.displaced[limit.name] += 1
        self.close(connection, CloseCode.TRY_AGAIN, limit.displaced)

    def _admitted(self) -> list[Connection]:
        return [connection for bucket in self._pings for connection in bucket]

    def _close_drained(self, now: float) -> None:
        """Close the admitted connections that are due; at the end, close all that remain."""
        if self._drained_at is None:
            return
        if now >= self._drained_at:
            self._close_queue.close_now(list(self._all), CloseCode.RESTART, RESTART_REASON)
            return
        found = self._admitted()
        for connection in found[: share_due(len(found), now, self._drained_at)]:
            self.close(connection, CloseCode.RESTART, RESTART_REASON)

    def _ping(self, connection: Connection) -> None:
        """Ping a client and its other side; end it if it did not answer the last ping.

        While the other side is full, the answer is not read: that side is at fault.
        """
        backend = connection.backend
        if connection.pinged and not (backend is not None and backend.is_full):
            self._move_to_closing(connection)
            connection.transport.abort()
        else:
            connection.pinged = True
            connection.transport.write(PING)
            if backend is not None:
                backend.ping()

    def _tick(self, connection: Connection, head: bytes) -> None:
        self.close_if_slow(connection)
        if not connection.closing:
            connection.send(numbered(head, connection.next_sequence()))

    def _move_to_closing(self, connection: Connection) -> None:
        """Move a connection to the closing connections, with a deadline for the peer's reply."""
        connection.stopped = True
        self.places.release(connection)
        number, session = connection.number, connection.session
        if session is None:
            self._pending.pop(connection, None)
            self.held.lost(connection)
        else:
            if session.device_id:
                self._presence.remove(number)
            self._pings[number % _PING_BUCKETS].discard(connection)
            self._ticks[number % _TICK_BUCKETS].discard(connection)
            if session.role == "operator":
                for audience in self._audiences.values():
                    audience.discard(connection)
        backend, connection.backend = connection.backend, None
        if backend is not None:
            backend.on_closing(connection.closed_with[0] if connection.closed_with else None)
        connection.deadline = self._clock.monotonic() + CLOSING_SECONDS
        self._closing[connection] = None
