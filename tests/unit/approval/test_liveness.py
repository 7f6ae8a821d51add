"""What the liveness publisher announces when Redis accepts no writes (R3)."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from services.approval import log_events
from services.approval.domain.errors import StoreUnavailable
from services.approval.metrics import Metrics
from services.approval.requests.liveness import (
    ALIVE_SECONDS,
    EAGER_SECONDS,
    LEAVE_SECONDS,
    SILENCE_SECONDS,
    LivenessPublisher,
)
from tests.support.clock import FakeClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from shared.rpc.messages import Alive


class Store:
    """Accepts writes or fails; `writes` is the result of each round."""

    def __init__(self, writes: Sequence[bool], cause: Exception | None = None) -> None:
        self._writes = iter(writes)
        self._cause = cause
        self.hangs = False
        self.away = False
        self.looks = 0
        self.has_replicas = False
        self.always_replicated = False
        self.liveness = self

    async def write_alive(self, _boot_id: str, *, uptime_s: int) -> None:
        if not next(self._writes):
            raise StoreUnavailable("ConnectionError: refused") from self._cause

    async def write_gone(self, _boot_id: str) -> None:
        return None

    async def info(self) -> dict[str, Any]:
        self.looks += 1
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.away:
            raise StoreUnavailable("ConnectionError: refused")
        return {"connected_slaves": 1}

    async def confirming_replicas(self) -> int | None:
        if self.away:
            raise StoreUnavailable("ConnectionError: refused")
        return 1

    async def appendfsync(self) -> str | None:
        return "always"


def warned(*writes: bool) -> list[tuple[float, str]]:
    """Run one round each; returns the warnings by second."""

    async def scenario(clock: FakeClock) -> list[tuple[float, str]]:
        received: list[Alive] = []
        announcer = LivenessPublisher(
            boot_id="here",
            store=Store(writes),  # type: ignore[arg-type]  # only the part that is used
            tell=received.append,
            metrics=Metrics(),
            clock=clock,
        )
        began = clock.monotonic()

        def stamp(_log: Any, _level: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
            return {**line, "at": clock.monotonic() - began}

        with capture_logs(processors=[stamp]) as logs:
            running = asyncio.create_task(announcer.run())
            await asyncio.sleep(ALIVE_SECONDS * (len(writes) - 0.5))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert len(received) == sum(writes)
        assert {line["event"] for line in logs} <= {log_events.STORE_UNAVAILABLE.name}
        return [(line["at"], line["error"]) for line in logs]

    return run_virtual(scenario)


class TestFailures:
    def test_one_from_the_start_is_logged(self) -> None:
        assert warned(False, False, False) == [(0, "ConnectionError: refused")]

    def test_each_that_follows_success_is_logged_once(self) -> None:
        assert [at for at, _ in warned(True, False, False, True, True, False)] == [1, 5]

    def test_a_success_is_not_logged(self) -> None:
        assert warned(True, True, True) == []


class TestRefusal:
    @pytest.mark.parametrize(
        ("refusal", "fresh"),
        [
            ("READONLY You can't write against a read only replica.", False),
            ("NOREPLICAS Not enough good replicas to write.", False),
            ("BUSY Redis is busy running a script.", True),
        ],
    )
    def test_a_server_that_refuses_writes_vouches_for_nobody_at_once(
        self, refusal: str, *, fresh: bool
    ) -> None:
        async def scenario(clock: FakeClock) -> bool:
            announcer = LivenessPublisher(
                boot_id="here",
                store=Store([True, False], ResponseError(refusal)),  # type: ignore[arg-type]
                tell=lambda _alive: None,
                metrics=Metrics(),
                clock=clock,
            )
            running = asyncio.create_task(announcer.run())
            await asyncio.sleep(0.1)
            announcer.on_own_event()
            assert announcer.fresh
            await asyncio.sleep(ALIVE_SECONDS)
            still = announcer.fresh
            await announcer.stop(running)
            return still

        assert run_virtual(scenario) is fresh


class TestLeaving:
    def test_it_says_at_once_that_it_takes_no_more_and_never_again_that_it_does(self) -> None:
        async def scenario(clock: FakeClock) -> tuple[list[Alive], bool, float]:
            received: list[Alive] = []
            announcer = LivenessPublisher(
                boot_id="here",
                store=Store([True] * 5),  # type: ignore[arg-type]  # only the part that is used
                tell=received.append,
                metrics=Metrics(),
                clock=clock,
            )
            running = asyncio.create_task(announcer.run())
            await asyncio.sleep(0.1)
            announcer.on_own_event()
            await asyncio.sleep(0.1)
            before = len(received)
            began = clock.monotonic()
            await announcer.leave()
            took = clock.monotonic() - began
            announcer.on_own_event()
            await asyncio.sleep(2 * ALIVE_SECONDS)
            fresh = announcer.fresh
            assert not announcer.health().ok
            await announcer.stop(running)
            return received[before - 1 :], fresh, took

        (last, *after), fresh, took = run_virtual(scenario)
        assert last.ready
        assert [item.ready for item in after] == [False] * 3
        assert fresh, "requests are still answered"
        assert took == LEAVE_SECONDS


class TestAnnouncingNow:
    def announced(self, *writes: bool, called_at: float) -> list[tuple[float, bool]]:
        """Return what was announced when, in seconds, if `announce_now` is called once.

        Each announcement comes back over the bus at once.
        """

        async def scenario(clock: FakeClock) -> list[tuple[float, bool]]:
            received: list[tuple[float, bool]] = []
            began = clock.monotonic()
            loop = asyncio.get_running_loop()

            def tell(alive: Alive) -> None:
                received.append((round(clock.monotonic() - began, 3), alive.ready))
                loop.call_soon(announcer.on_own_event)

            announcer = LivenessPublisher(
                boot_id="here",
                store=Store(writes),  # type: ignore[arg-type]  # only the part that is used
                tell=tell,
                metrics=Metrics(),
                clock=clock,
            )
            running = asyncio.create_task(announcer.run())
            await asyncio.sleep(called_at)
            announcer.announce_now()
            await asyncio.sleep(2.9 * ALIVE_SECONDS)
            await announcer.stop(running)
            return received

        return run_virtual(scenario)

    def test_it_is_done_at_once_and_soon_again_for_a_while(self) -> None:
        begin = [(0, False), (0, True), (1, True)]
        assert self.announced(*[True] * 9, called_at=1.3) == [
            *begin,
            *((round(1.3 + n * EAGER_SECONDS, 3), True) for n in range(5)),
            (2.3 + ALIVE_SECONDS, True),
        ]

    def test_after_an_outage_it_is_ready_as_soon_as_its_own_event_comes_back(self) -> None:
        outage = [False] * 4
        called_at = SILENCE_SECONDS + 1.5
        received = self.announced(True, *outage, *[True] * 9, called_at=called_at)
        assert received[2:5] == [(called_at, False), (called_at, True), (called_at + 0.25, True)]


class TestLooking:
    def test_a_look_that_hangs_holds_up_no_announcement(self) -> None:
        async def scenario(clock: FakeClock) -> list[float]:
            store = Store([True] * 9)
            store.hangs = True
            received: list[float] = []
            announcer = LivenessPublisher(
                boot_id="here",
                store=store,  # type: ignore[arg-type]
                tell=lambda _alive: received.append(clock.monotonic()),
                metrics=Metrics(),
                clock=clock,
            )
            running = [asyncio.create_task(run) for run in (announcer.run(), announcer.watch())]
            await asyncio.sleep(8.5 * ALIVE_SECONDS)
            assert store.looks == 1
            await announcer.stop(*running)
            return [round(later - before, 3) for before, later in itertools.pairwise(received)]

        assert run_virtual(scenario) == [ALIVE_SECONDS] * 8

    def test_it_is_done_anew_and_says_nothing_while_redis_is_away(self) -> None:
        async def scenario(_clock: FakeClock) -> tuple[bool, bool]:
            store = Store([])
            store.away = True
            announcer = LivenessPublisher(
                boot_id="here",
                store=store,  # type: ignore[arg-type]
                tell=lambda _alive: None,
                metrics=Metrics(),
                clock=_clock,
            )
            with capture_logs() as logs:
                watching = asyncio.create_task(announcer.watch())
                await asyncio.sleep(0.1)
                unknown = store.has_replicas
                store.away = False
                await asyncio.sleep(ALIVE_SECONDS)
                await announcer.stop(watching)
            assert logs == []
            return unknown, store.has_replicas

        assert run_virtual(scenario) == (False, True)
