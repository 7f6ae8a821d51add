"""Sends heartbeats to approval, and carries out the effects of events and answers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from services.gateway import log_events
from services.gateway.replication.events import broadcasts
from services.gateway.replication.replica import (
    PROGRESSED,
    SYNC_NOW,
    AnnounceChange,
    CloseDevice,
    CloseEverybody,
)
from shared.bus.errors import Unavailable
from shared.clock import remote_offset_ms
from shared.rpc.messages import HeartbeatQuestion, Leaving, decode_heartbeat_answer, encode
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.connections.hub import Hub
    from services.gateway.metrics import Metrics
    from services.gateway.replication.presence import Presence
    from services.gateway.replication.recent_refusals import RecentRefusals
    from services.gateway.replication.relay_port import RelayPort
    from services.gateway.replication.replica import Effect, Replica
    from shared.clock import Clock
    from shared.rpc.messages import Changed
    from shared.rpc.requester import Requester

EXTRA_BEAT_SECONDS: Final = 0.05
"""The minimum interval between extra heartbeats."""
OVERDUE_BEATS: Final = 1.5
"""An answer is overdue if the newest answered heartbeat was sent this many intervals ago."""


class Heartbeat:
    """The I/O around Replica: sends heartbeats and applies its effects to the hub."""

    def __init__(
        self,
        *,
        replica: Replica,
        presence: Presence,
        refusals: RecentRefusals,
        requester: Requester,
        connections: Hub,
        metrics: Metrics,
        clock: Clock,
        beat_seconds: float,
        on_presence: Callable[[int], None],
        relay: RelayPort | None = None,
    ) -> None:
        self._replica = replica
        self._presence = presence
        self._refusals = refusals
        self._requester = requester
        self._connections = connections
        self._metrics = metrics
        self._clock = clock
        self._interval_seconds = beat_seconds
        self._on_presence = on_presence
        self._relay = relay
        self._log = structlog.get_logger("gateway")
        self._extra: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self.store_offset_ms: float | None = None
        """What to add to our monotonic clock for the store's time; None before the first answer.

        This estimate is never ahead of the store's clock, as far as the latest answer shows.
        """
        self._leaving = False
        self._started_at = clock.monotonic()

    async def run(self) -> None:
        """Send heartbeats until cancelled, whether or not earlier ones were answered."""
        try:
            while not self._leaving:
                self._send()
                await asyncio.sleep(self._interval_seconds)
        finally:
            if self._extra is not None:
                self._extra.cancel()

    async def withdraw(self) -> None:
        """Stop sending heartbeats, and tell approval that this gateway is leaving."""
        self._leaving = True
        with contextlib.suppress(Unavailable):
            await self._requester.submit(encode(Leaving()), urgent=True)

    def sync_now(self) -> None:
        """Schedule an extra heartbeat to fetch missing changes."""
        if self._extra is None:
            loop = asyncio.get_running_loop()
            self._extra = loop.call_later(EXTRA_BEAT_SECONDS, self._send_extra)

    def on_approval_alive(self) -> None:
        """Send a heartbeat soon if an answer is overdue: this approval replica can give it.

        The lease has been running out since heartbeats went unanswered, so the regular one would
        use up more of what is left.
        """
        if self._replica.lease_age > OVERDUE_BEATS * self._interval_seconds:
            self.sync_now()

    def on_event(self, event: Changed) -> None:
        """Handle a change event from the bus."""
        self._carry_out(self._replica.on_event(event))

    async def wait_for_progress(self) -> None:
        """Wait until the applied position or the lease has progressed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await future

    def _send_extra(self) -> None:
        self._extra = None
        if not self._leaving:
            self._send()

    def _send(self) -> None:
        heartbeat_id = self._replica.next_heartbeat()
        sent_at = self._clock.monotonic()
        builds_on, joined, left = self._presence.delta(heartbeat_id)
        question = HeartbeatQuestion(
            heartbeat_id=heartbeat_id,
            applied=self._replica.applied,
            booted=self._replica.booted,
            builds_on=builds_on,
            connections=len(self._presence),
            joined=joined,
            left=left,
            seen=self._presence.last_seen.take_unsent(heartbeat_id, sent_at),
            lease_ms=self._replica.lease_ms,
            version=VERSION,
            uptime_s=int(sent_at - self._started_at),
            refused=self._refusals.report(heartbeat_id, sent_at),
            addresses_after_ms=-1 if self._relay is None else self._relay.addresses_at_ms,
            upstream=None if self._relay is None else self._relay.state(),
        )
        try:
            answer = self._requester.submit(encode(question), urgent=True)
        except Unavailable:
            return
        answer.add_done_callback(lambda done: self._on_answer(done, sent_at))

    def _on_answer(self, answer: asyncio.Future[msgspec.Raw], sent_at: float) -> None:
        if answer.cancelled() or answer.exception() is not None:
            self._metrics.heartbeats.labels("unanswered").inc()
            return
        try:
            heartbeat_answer = decode_heartbeat_answer(answer.result())
        except (msgspec.MsgspecError, RecursionError):
            self._metrics.heartbeats.labels("malformed").inc()
            return
        self._metrics.heartbeats.labels("resync" if heartbeat_answer.resync else "answered").inc()
        self._metrics.beat_seconds.observe(self._clock.monotonic() - sent_at)
        self.store_offset_ms = remote_offset_ms(
            self.store_offset_ms,
            heartbeat_answer.now_ms,
            sent_ms=sent_at * 1000,
            received_ms=self._clock.monotonic() * 1000,
        )
        self._presence.acknowledge(heartbeat_answer.heartbeat_id, heartbeat_answer.presence_at)
        self._presence.last_seen.acknowledge(heartbeat_answer.heartbeat_id)
        self._refusals.answered(heartbeat_answer.heartbeat_id)
        if self._presence.behind or self._presence.last_seen.behind:
            self.sync_now()
        self._carry_out(self._replica.on_answer(heartbeat_answer))
        self._on_presence(heartbeat_answer.presence_version)
        if self._relay is not None:
            self._relay.on_addresses(heartbeat_answer.addresses, heartbeat_answer.addresses_at_ms)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects; connections are closed before any broadcast is sent."""
        for effect in effects:
            if isinstance(effect, CloseDevice):
                self._close_device(effect.change)
        for effect in effects:
            if isinstance(effect, AnnounceChange):
                if self._relay is not None and effect.change.closes:
                    self._relay.on_device_closed(effect.change.device_id)
                for broadcast in broadcasts(effect.change):
                    self._connections.broadcast(broadcast)
                self._connections.held.on_change(effect.change)
            elif isinstance(effect, CloseEverybody):
                self._log.error(
                    log_events.RESYNC.name,
                    change=self._replica.applied.number,
                    closing=self._connections.admitted,
                )
                self._connections.mark_closing(effect.until)
            elif effect is SYNC_NOW:
                self.sync_now()
            elif effect is PROGRESSED:
                self._wake_waiters()

    def _close_device(self, change: Changed) -> None:
        closed = self._connections.close_device(change.device_id, change.closes, change.call_id)
        if closed:
            self._metrics.closed_by_change.inc(closed)
            self._log.info(
                log_events.CHANGED.name,
                device=change.device_id,
                kind=change.kind,
                change=change.change.number,
                closed=closed,
            )

    def _wake_waiters(self) -> None:
        waiting, self._waiters = self._waiters, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
