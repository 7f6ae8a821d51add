"""Queues notifications and delivers them, at one replica at a time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from services.approval import log_events
from services.approval.domain.errors import StoreUnavailable
from services.approval.notifications import event as events
from services.approval.notifications.collecting import collect, member_of
from services.approval.notifications.poster import ATTEMPT_SECONDS, Poster
from services.approval.notifications.resolver import CheckedResolver
from services.approval.notifications.retry import RetryPolicy
from services.approval.notifications.sender import Sender
from services.approval.storage.webhooks import LEASE_MS, POLLED_CHANGES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from services.approval.metrics import Metrics
    from services.approval.notifications.settings import WebhookSettings
    from services.approval.storage.webhooks import Poll, WebhookStore
    from shared.clock import Clock
    from shared.rpc.messages import Position

POLL_SECONDS: Final = 1.0
"""Pause between two polls of the replica that delivers; a change shortens it."""
POLLS_APART_SECONDS: Final = 0.05
"""Min. pause between two polls, so that changes in quick succession are read together."""
STANDBY_SECONDS: Final = 2.0
"""Pause between two attempts of another replica to take the lease."""
MARGIN_SECONDS: Final = 1.0
"""The lease counts as lost so long before it ends in Redis."""
CANCEL_AGAIN_SECONDS: Final = 0.1
"""After this time, a delivery that goes on is cancelled again."""
DROP_REASONS: Final = ("full", "given-up")
RELEASE_SECONDS: Final = 0.5
"""Timeout for giving up the lease at shutdown, and for closing connections."""


class _Held:
    """The lease as this process knows it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = float("-inf")
        self.token = ""

    def renew(self, token: str, begun: float) -> None:
        self.token = token
        self._until = begun + LEASE_MS / 1000 - MARGIN_SECONDS

    def is_held(self) -> bool:
        return self._clock.monotonic() < self._until


class Notifier:
    """One task that polls, and one per target while this replica holds the lease."""

    def __init__(
        self,
        settings: WebhookSettings,
        store: WebhookStore,
        *,
        public_url: str,
        metrics: Metrics,
        clock: Clock,
        now_ms: Callable[[], int],
        chance: Random,
        close: Callable[[], Awaitable[None]] | None = None,
        policy: RetryPolicy | None = None,
        resolver: CheckedResolver | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._settings = settings
        self._store = store
        self._public_url = public_url
        self._metrics = metrics
        self._clock = clock
        self._now_ms = now_ms
        self._chance = chance
        self._close = close
        self._policy = policy or RetryPolicy()
        self._resolver = resolver or CheckedResolver(private_addresses=settings.private_addresses)
        self._attempt_seconds = attempt_seconds
        self._keys = [target.key for target in settings.targets]
        self._log = structlog.get_logger("approval")
        self._wake = asyncio.Event()
        self._lease = _Held(clock)
        self._last: Position | None = None
        self._posters: list[Poster] = []
        self._senders: list[Sender] = []
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self) -> None:
        """Read changes soon; cheap enough to be called for each change."""
        self._wake.set()

    async def run(self) -> None:
        """Queue and deliver until cancelled; without targets, return at once."""
        if not self._keys:
            return
        try:
            while True:
                pause = await self._round()
                await asyncio.sleep(pause)
        finally:
            await self._stop_delivering()
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._store.release(self._lease.token)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    for poster in self._posters:
                        await poster.close()
            if self._close is not None:
                await self._close()

    async def _round(self) -> float:
        """Poll once; return how long to pause."""
        begun = self._clock.monotonic()
        try:
            poll = await self._store.poll(self._keys)
            if not poll.lease:
                self._last = poll.at
                await self._stop_delivering()
                return STANDBY_SECONDS
            ended = not self._tasks or any(task.done() for task in self._tasks)
            if poll.lease != self._lease.token or ended:
                await self._stop_delivering()
                self._lease.renew(poll.lease, begun)
                self._start_delivering()
            self._lease.renew(poll.lease, begun)
            more = await self._queue(poll)
        except StoreUnavailable:
            return POLL_SECONDS  # LivenessPublisher logs this, once
        except Exception:  # noqa: BLE001 (the next round tries again)
            self._log.exception("notifications failed")
            return POLL_SECONDS
        if not more:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
        self._wake.clear()
        return POLLS_APART_SECONDS

    async def _queue(self, poll: Poll) -> bool:
        """Queue what a poll found; return whether there is more to read at once."""
        collected = collect(poll, self._last)
        self._show(poll)
        if not collected.moved:
            self._last = poll.at
            self._call(poll)
            return False
        members = [member_of(event) for event in collected.events]
        outcome, dropped = await self._store.enqueue(
            poll,
            self._keys,
            members,
            reached=collected.reached,
            lockouts_ms=collected.lockouts_ms,
        )
        if outcome != "done":
            return outcome == "stale"
        self._last = collected.reached
        for sender, count in zip(self._senders, dropped, strict=True):
            sender.wake.set()
            if count:
                target = sender.target
                self._metrics.webhook_dropped.labels(target.name, "full").inc(count)
                self._log.warning(
                    log_events.WEBHOOK_DROPPED.name, target=target.name, dropped=count
                )
        return len(poll.changes) > POLLED_CHANGES

    def _call(self, poll: Poll) -> None:
        """Wake the senders of queues that hold something, such as a test notification."""
        for sender, queue in zip(self._senders, poll.queues, strict=True):
            if queue.length:
                sender.wake.set()

    def _show(self, poll: Poll) -> None:
        for target, queue in zip(self._settings.targets, poll.queues, strict=True):
            self._metrics.webhook_queue.labels(target.name).set(queue.length)
            age_ms = 0
            if queue.first:
                with contextlib.suppress(msgspec.MsgspecError):
                    age_ms = max(0, poll.now_ms - events.decode(queue.first[1:]).at_ms)
            self._metrics.webhook_oldest.labels(target.name).set(age_ms / 1000)

    def _start_delivering(self) -> None:
        self._log.info(log_events.WEBHOOK_LEASE.name, targets=len(self._keys))
        for target in self._settings.targets:
            for reason in DROP_REASONS:
                self._metrics.webhook_dropped.labels(target.name, reason)  # 0, so that 1 is a rise
        if not self._posters:
            self._posters = [
                Poster(
                    target,
                    self._settings.keys,
                    public_url=self._public_url,
                    resolver=self._resolver,
                    attempt_seconds=self._attempt_seconds,
                )
                for target in self._settings.targets
            ]
        self._senders = [
            Sender(
                target,
                self._store,
                poster,
                self._lease,
                policy=self._policy,
                metrics=self._metrics,
                now_ms=self._now_ms,
                chance=self._chance,
            )
            for target, poster in zip(self._settings.targets, self._posters, strict=True)
        ]
        self._tasks = [
            asyncio.create_task(sender.run(), name=f"webhook {sender.target.name}")
            for sender in self._senders
        ]

    async def _stop_delivering(self) -> None:
        """End all deliveries; those in progress may arrive, and are then repeated."""
        if not self._tasks:
            return
        pending = set(self._tasks)
        while pending:  # aiohappyeyeballs loses one that arrives as the first address connects
            for task in pending:
                task.cancel()
            _done, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
        self._tasks = []
        self._senders = []
        self._metrics.webhook_queue.clear()
        self._metrics.webhook_oldest.clear()
