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
from tools.load.workers.churn import NOT_STARTED, Churn
from tools.load.workers.messages import Job
from tools.load.workers.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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
            target = read_target(url or f"{stub}/")
            job = Job(0, 1, target, [], "token", IDENTITIES, timeout, phases)
            dialer = Dialer(target, loopback_sources(1))
            await dialer.prepare()
            devices = [LoadDevice(item, "token", n) for n, item in enumerate(IDENTITIES)]
            churn = Churn(job, devices, dialer)
            await churn.run(time.monotonic())
            progress = churn.progress()
            assert progress.in_flight == 0
            tallies = [Tally() for _ in phases]
            for delta in progress.deltas:
                tallies[delta.phase].add(delta)
            return tallies

    return uvloop.run(run())


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
    counts = {churned(phase)[0].right for _ in range(3)}
    assert counts != {200}
    assert all(100 < count < 300 for count in counts)


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
