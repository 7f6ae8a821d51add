"""A worker's churn against a stub gateway, on the worker's event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import uvloop

from tests.support.stubs.gateway import Socket, stub_gateway
from tools.load.client.devices import Identity, LoadDevice
from tools.load.client.dialer import Dialer, loopback_sources
from tools.load.client.target import read_target
from tools.load.client.verdicts import Kind, Outcome
from tools.load.plan import Phase
from tools.load.workers.arrivals import arrivals
from tools.load.workers.churn import NOT_STARTED, Churn
from tools.load.workers.messages import Job
from tools.load.workers.tally import Tally
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tools.load.client.session import Session

IDENTITIES = [Identity(bytes([n]) * 32) for n in range(1, 4)]


async def admits(socket: Socket) -> None:
    await socket.admit()
    await socket.hear_anything()


def after(seconds: float) -> Callable[[Socket], Awaitable[object]]:
    async def admits_later(socket: Socket) -> None:
        await asyncio.sleep(seconds)
        await admits(socket)

    return admits_later


async def says_nothing(socket: Socket) -> None:
    await socket.hear_anything()


def churned(
    *phases: Phase,
    script: Callable[[Socket], Awaitable[object]] = admits,
    timeout: float = 5,
    url: str = "",
) -> list[Tally]:
    """Run phases and return the outcomes of each."""

    async def run() -> list[Tally]:
        async with stub_gateway(script) as stub:
            churn = await churn_of(url or f"{stub}/", *phases, give_up=timeout)
            await churn.run(time.monotonic())
            progress = churn.progress()
            assert progress.in_flight == 0
            tallies = [Tally() for _ in phases]
            for delta in progress.deltas:
                tallies[delta.phase].add(delta)
            return tallies

    return uvloop.run(run())


async def churn_of(url: str, *phases: Phase, give_up: float = 5) -> Churn:
    target = read_target(url)
    job = Job(0, 1, target, [], "token", IDENTITIES, give_up, phases)
    dialer = Dialer(target, loopback_sources(1))
    await dialer.prepare()
    devices = [LoadDevice(item, "token", n) for n, item in enumerate(IDENTITIES)]
    return Churn(job, devices, dialer)


def test_a_closed_loop_reconnects_until_the_phase_ends() -> None:
    (tally,) = churned(Phase("closed", 0.3, 3))
    assert set(tally.outcomes) == {Outcome(Kind.ADMITTED)}
    assert tally.right > 3
    assert 0 < tally.verdicts <= tally.right
    assert tally.histogram.count == tally.right


def test_an_open_loop_starts_at_its_rate() -> None:
    (tally,) = churned(Phase("open", 0.5, 100, rate=40, is_open=True))
    assert tally.outcomes == {Outcome(Kind.ADMITTED): 20}


def test_clients_of_an_open_loop_can_arrive_independently_of_each_other() -> None:
    """An even pace starts 200 every time; independent arrivals seldom do."""
    phase = Phase("open", 0.5, 1000, rate=400, is_open=True, poisson=True)
    starts = len(list(arrivals(phase, index=0, worker=0, workers=1)))
    assert starts != 200
    (tally,) = churned(phase)
    assert tally.outcomes == {Outcome(Kind.ADMITTED): starts}


def test_starts_of_an_open_loop_do_not_wait_for_answers() -> None:
    """Nobody is answered for longer than the phase, and yet all start in time."""
    (tally,) = churned(Phase("open", 0.5, 100, rate=100, is_open=True), script=after(0.6))
    assert tally.outcomes == {Outcome(Kind.ADMITTED): 50}
    assert tally.verdicts == 0
    assert tally.delays.count == 50
    assert tally.histogram.minimum > 600_000


def test_no_attempt_of_an_open_loop_starts_before_its_time() -> None:
    phase = Phase("open", 0.5, 1000, rate=400, is_open=True, poisson=True)
    planned = list(arrivals(phase, index=0, worker=0, workers=1))

    async def run() -> list[float]:
        async with stub_gateway(admits) as stub:
            churn = await churn_of(f"{stub}/", phase)
            started: list[float] = []
            begin, dial = time.monotonic() + 0.05, churn._dialer.dial

            def noted(session: Session) -> None:
                started.append(time.monotonic() - begin)
                dial(session)

            churn._dialer.dial = noted  # type: ignore[method-assign]
            await churn.run(begin)
            return started

    started = uvloop.run(run())
    late = [at - due for at, due in zip(started, planned, strict=True)]
    assert min(late) >= 0
    assert sorted(late)[len(late) // 10] < 0.001


def test_starts_that_are_due_when_a_phase_ends_are_still_made() -> None:
    async def run() -> None:
        async with stub_gateway(admits) as stub:
            phase = Phase("open", 0.1, 100, rate=50, is_open=True)
            churn = await churn_of(f"{stub}/", phase)
            churn._start(0, phase, time.monotonic())
            time.sleep(0.1)  # noqa: ASYNC251  the loop has no chance to handle the alarm
            churn._finish()
            assert len(churn._live) == 5
            await until(lambda: not churn._live, "all have ended")
            assert churn.progress().deltas[0].outcomes == {Outcome(Kind.ADMITTED): 5}

    uvloop.run(run())


def test_a_start_that_a_busy_core_delayed_is_made_later_and_its_delay_recorded() -> None:
    phase = Phase("open", 0.6, 100, rate=50, is_open=True)

    async def run() -> Tally:
        async with stub_gateway(admits) as stub:
            churn = await churn_of(f"{stub}/", phase)
            running = asyncio.create_task(churn.run(time.monotonic()))
            await asyncio.sleep(0.1)
            time.sleep(0.3)  # noqa: ASYNC251  what a busy core does
            await running
            tally = Tally()
            for delta in churn.progress().deltas:
                tally.add(delta)
            return tally

    tally = uvloop.run(run())
    assert tally.outcomes == {Outcome(Kind.ADMITTED): 30}
    assert tally.delays.count == 30
    assert tally.delays.maximum > 200_000
    assert tally.delays.percentile(99) > 200_000


def test_latency_counts_from_the_intended_start() -> None:
    """With one in flight at a time and none answered, each waits for the previous timeout."""
    phase = Phase("open", 0.5, 1, rate=10, is_open=True)
    (tally,) = churned(phase, script=says_nothing, timeout=0.2)
    failed = sum(count for outcome, count in tally.outcomes.items() if outcome.kind is Kind.FAILED)
    assert failed == 5
    assert tally.outcomes[NOT_STARTED] > 0
    assert tally.outcomes[Outcome(Kind.FAILED, "timed out")] > 0


def test_each_phase_counts_its_own_outcomes() -> None:
    first, second = churned(
        Phase("1", 0.3, 9, rate=20, is_open=True), Phase("2", 0.3, 9, rate=40, is_open=True)
    )
    assert (first.right, second.right) == (6, 12)
    assert first.verdicts + second.verdicts <= 18


def test_an_attempt_counts_for_the_phase_in_which_it_began() -> None:
    first, second = churned(Phase("1", 0.1, 5), Phase("2", 0.8, 5), script=after(0.3), timeout=3)
    assert (first.right, first.verdicts) == (5, 0)
    assert second.verdicts <= first.right + second.right


def test_a_dead_target_is_not_tried_in_a_busy_loop() -> None:
    (tally,) = churned(Phase("closed", 0.3, 1), url="ws://127.0.0.1:1/")
    (outcome,) = tally.outcomes
    assert outcome.kind is Kind.FAILED
    assert tally.outcomes[outcome] < 20


def test_a_closed_loop_can_be_paced() -> None:
    (tally,) = churned(Phase("closed", 0.5, 8, rate=20))
    assert 0 < tally.right <= 11
