"""Delivers the notifications of one target, one after another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import structlog

from services.approval import log_events
from services.approval.domain.errors import StoreUnavailable
from services.approval.notifications import event as events
from services.approval.storage.webhooks import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from services.approval.metrics import Metrics
    from services.approval.notifications.event import Event
    from services.approval.notifications.poster import Outcome, Poster
    from services.approval.notifications.retry import RetryPolicy
    from services.approval.notifications.targets import Target
    from services.approval.storage.webhooks import TargetRecord, WebhookStore

STORE_RETRY_SECONDS: Final = 1.0
"""Pause after Redis did not answer."""
SLEEP_LIMIT_SECONDS: Final = 5.0
"""Longest sleep before the queue is looked at again, as it may have been shortened."""
LEASE_PAUSE_SECONDS: Final = 0.1
"""Pause while the lease may have been lost."""


class Lease(Protocol):
    """The right to deliver."""

    @property
    def token(self) -> str:
        """Return the lease, which Redis compares with each write."""
        ...

    def is_held(self) -> bool:
        """Return whether the lease has certainly not expired."""
        ...


class Sender:
    """Delivers to one target while the lease is held; `wake` is set when something is queued.

    The first notification stays in the queue until the target has accepted it or it is given up:
    the order is kept, and whoever takes over starts with it.
    """

    def __init__(
        self,
        target: Target,
        store: WebhookStore,
        poster: Poster,
        lease: Lease,
        *,
        policy: RetryPolicy,
        metrics: Metrics,
        now_ms: Callable[[], int],
        chance: Random,
    ) -> None:
        self.target: Final = target
        self.wake: Final = asyncio.Event()
        self._store = store
        self._poster = poster
        self._lease = lease
        self._policy = policy
        self._metrics = metrics
        self._now_ms = now_ms
        self._chance = chance
        self._log = structlog.get_logger("approval").bind(target=target.name, host=target.host)

    async def run(self) -> None:
        """Deliver until cancelled, or until another replica holds the lease."""
        while True:
            try:
                if not await self._step():
                    return
            except StoreUnavailable:
                await asyncio.sleep(STORE_RETRY_SECONDS)
            except Exception:  # noqa: BLE001 (the next step tries again)
                self._log.exception("delivery failed")
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _step(self) -> bool:
        """Deliver the first notification, or wait; return False if the lease was lost."""
        self.wake.clear()
        waiting = await self._store.waiting(self.target.key)
        if not waiting.first:
            await self.wake.wait()
            return True
        try:
            event = events.decode(waiting.first[1:])
        except msgspec.MsgspecError:
            return await self._give_up(waiting.first, {}, "it cannot be read")
        record = waiting.record
        attempts = record.attempts if record.head == event.id else 0
        left = record.retry_at_ms - self._now_ms()
        if attempts and 0 < left <= self._policy.most_ms:  # longer: the clock was set back
            await asyncio.sleep(min(left / 1000, SLEEP_LIMIT_SECONDS))
            return True
        if not self._lease.is_held():
            await asyncio.sleep(LEASE_PAUSE_SECONDS)
            return True
        outcome = await self._poster.post(event, self._now_ms())
        self._metrics.webhook_attempts.labels(self.target.name, outcome.result).inc()
        if outcome.is_delivered:
            return await self._delivered(waiting.first, event, record)
        return await self._failed(waiting.first, event, record, attempts + 1, outcome)

    async def _delivered(self, member: bytes, event: Event, record: TargetRecord) -> bool:
        now_ms = self._now_ms()
        if record.failing_since_ms:
            self._log.info(log_events.WEBHOOK_RECOVERED.name)
        notice = b""
        if record.missed:
            seed = f"{self.target.key} {event.id} {now_ms}"
            missed = events.of_missed(seed, now_ms, record.missed)
            notice = KEPT.encode() + events.encode(missed)
        return await self._store.settle(
            self._lease.token,
            self.target.key,
            remove=member,
            fields={
                "head": "",
                "attempts": 0,
                "retry_at_ms": 0,
                "failing_since_ms": 0,
                "delivered_id": event.id,
                "delivered_at_ms": now_ms,
            },
            add={"delivered": 1, "missed": -record.missed},
            append=notice,
        )

    async def _failed(
        self, member: bytes, event: Event, record: TargetRecord, attempts: int, outcome: Outcome
    ) -> bool:
        now_ms = self._now_ms()
        fields: dict[str, str | int] = {
            "head": event.id,
            "attempts": attempts,
            "error": outcome.error,
            "error_at_ms": now_ms,
            "failing_since_ms": record.failing_since_ms or now_ms,
        }
        if not record.failing_since_ms:
            self._log.warning(log_events.WEBHOOK_FAILING.name, error=outcome.error)
        age_ms = now_ms - event.at_ms
        if self._policy.gives_up(age_ms=age_ms, attempts=attempts, status=outcome.status):
            return await self._give_up(member, fields, outcome.error)
        delay = self._policy.delay_ms(attempts, self._chance.random(), outcome.retry_after_ms)
        fields["retry_at_ms"] = now_ms + delay
        return await self._store.settle(self._lease.token, self.target.key, fields=fields, add={})

    async def _give_up(self, member: bytes, fields: dict[str, str | int], why: str) -> bool:
        self._log.error(log_events.WEBHOOK_GIVEN_UP.name, error=why)
        self._metrics.webhook_dropped.labels(self.target.name, "given-up").inc()
        return await self._store.settle(
            self._lease.token,
            self.target.key,
            remove=member,
            fields=fields | {"head": "", "attempts": 0, "retry_at_ms": 0},
            add={"given_up": 1, "missed": 1},
        )
