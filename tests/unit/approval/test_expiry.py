"""Expired requests are ended in the background, a bounded number in a bounded time."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.records import Metadata, Pending, Record, VersionedRecord
from services.approval.registry.expiry import (
    EXPIRED_PER_ROUND,
    ROUND_SECONDS,
    ROUNDS_APART_SECONDS,
    Expiry,
)
from services.approval.storage.changes.transaction_log import Committed
from shared.rpc.messages import Position
from tests.support.clock import FakeClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.storage.changes.transaction import Transaction

TTL_MS = 60_000
ROUND_TRIP_SECONDS = 0.024


class Store:
    """Holds expired requests; every commit takes a round trip, and ends one device's request."""

    def __init__(self, clock: FakeClock, void: int) -> None:
        self._clock = clock
        self.void = [f"device {number}" for number in range(void)]
        self.ended: list[str] = []
        self.commits = 0
        self.committing = asyncio.Event()
        self.reads = 0
        self.away = False
        self.round_trip_seconds = ROUND_TRIP_SECONDS

    def now_ms(self) -> int:
        return self._clock.wall_ms()

    async def expired(self, _now_ms: int, maximum: int) -> list[str]:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("ConnectionError: refused")
        return self.void[:maximum]

    async def load(self, device_ids: Sequence[str]) -> tuple[Position, list[VersionedRecord]]:
        return Position(), [VersionedRecord("1", self._record(id_)) for id_ in device_ids]

    async def commit(self, transaction: Transaction) -> Committed:
        plan = transaction.plan
        self.commits += 1
        self.committing.set()
        await asyncio.sleep(self.round_trip_seconds)
        device_id = plan.changes[0].device_id
        self.void.remove(device_id)
        self.ended.append(device_id)
        return Committed("done", Position(self.commits, "tag"), b"", "")

    def _record(self, device_id: str) -> Record:
        refreshed_at_ms = self.now_ms() - TTL_MS
        pending = Pending(
            request_id=f"request of {device_id}",
            reason="not-paired",
            role="operator",
            roles=("operator",),
            scopes=(),
            metadata=Metadata("cli", "cli", "linux"),
            limit_key="an address",
            created_at_ms=refreshed_at_ms,
            refreshed_at_ms=refreshed_at_ms,
        )
        return Record(device_id, "key", pending=pending)


def made(store: Store, clock: FakeClock, *, ready: bool = True, seed: int = 1) -> Expiry:
    given: Any = store  # only the part that is used
    return Expiry(
        given,
        given,
        ttl_ms=TTL_MS,
        ready=lambda: ready,
        clock=clock,
        chance=Random(seed),
    )


def test_a_round_ends_so_many_at_most() -> None:
    async def scenario(clock: FakeClock) -> None:
        store = Store(clock, EXPIRED_PER_ROUND + 20)
        store.round_trip_seconds = 0.001
        running = asyncio.create_task(made(store, clock).run())
        await asyncio.sleep(ROUNDS_APART_SECONDS)
        assert len(store.ended) == EXPIRED_PER_ROUND
        await asyncio.sleep(ROUNDS_APART_SECONDS + ROUND_SECONDS)
        assert not store.void
        running.cancel()

    run_virtual(scenario)


def test_a_round_starts_no_commit_after_its_time() -> None:
    async def scenario(clock: FakeClock) -> tuple[int, float]:
        store = Store(clock, 50)
        store.round_trip_seconds = 0.5
        began = clock.monotonic()
        ended = await made(store, clock).end_void(EXPIRED_PER_ROUND)
        return ended, clock.monotonic() - began

    ended, took = run_virtual(scenario)
    assert ended == ROUND_SECONDS / 0.5
    assert took == ROUND_SECONDS


def test_replicas_begin_at_different_requests() -> None:
    async def scenario(clock: FakeClock) -> list[list[str]]:
        stores = [Store(clock, 50), Store(clock, 50)]
        for seed, store in enumerate(stores):
            await made(store, clock, seed=seed).end_void(EXPIRED_PER_ROUND)
        return [store.ended for store in stores]

    here, there = run_virtual(scenario)
    assert sorted(here) == sorted(there)
    assert here != there


def test_it_says_nothing_while_redis_is_away_and_goes_on_after_that() -> None:
    async def scenario(clock: FakeClock) -> None:
        store = Store(clock, 1)
        store.away = True
        with capture_logs() as logs:
            running = asyncio.create_task(made(store, clock).run())
            await asyncio.sleep(3 * ROUNDS_APART_SECONDS)
            assert store.reads == 3
            store.away = False
            await asyncio.sleep(2 * ROUNDS_APART_SECONDS)
        assert logs == []
        assert not store.void
        running.cancel()

    run_virtual(scenario)


def test_nothing_is_ended_by_a_replica_that_may_not_answer() -> None:
    async def scenario(clock: FakeClock) -> None:
        store = Store(clock, 1)
        running = asyncio.create_task(made(store, clock, ready=False).run())
        await asyncio.sleep(3 * ROUNDS_APART_SECONDS)
        assert store.reads == 0
        running.cancel()

    run_virtual(scenario)


def test_stopping_waits_for_the_running_commit_and_starts_no_other() -> None:
    async def scenario(clock: FakeClock) -> tuple[int, int]:
        store = Store(clock, 50)
        expiry = made(store, clock)
        running = asyncio.create_task(expiry.run())
        await store.committing.wait()
        await expiry.stop(running)
        assert running.done()
        return store.commits, len(store.ended)

    assert run_virtual(scenario) == (1, 1)


def test_stopping_between_rounds_waits_for_nothing() -> None:
    async def scenario(clock: FakeClock) -> float:
        expiry = made(Store(clock, 0), clock)
        running = asyncio.create_task(expiry.run())
        await asyncio.sleep(0)
        began = clock.monotonic()
        await expiry.stop(running)
        return clock.monotonic() - began

    assert run_virtual(scenario) == 0
