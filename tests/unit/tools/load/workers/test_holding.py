"""A worker's held connections that are dropped and come back, against a stub gateway."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import uvloop

from tests.support.stubs.gateway import Socket, stub_gateway
from tools.load.client.devices import Identity, LoadDevice
from tools.load.client.dialer import Dialer, loopback_sources
from tools.load.client.target import read_target
from tools.load.plan import Hold
from tools.load.workers import holding
from tools.load.workers.holding import Holding
from tools.load.workers.messages import ComeBack, Job, Stop
from tools.support.waiting import until

if TYPE_CHECKING:
    import pytest

IDENTITY = Identity(bytes(32))
FIRST_SECONDS = 0.2
LATE_SECONDS = 0.4


def test_dropped_clients_come_back_as_the_reference_client_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1 s after the drop, then 2 s and 4 s after failures; here a fifth of that."""
    monkeypatch.setattr(holding, "REFERENCE_BACK_OFF_SECONDS", FIRST_SECONDS)
    arrived: list[float] = []

    async def admits_first_and_fourth(socket: Socket) -> None:
        arrived.append(time.monotonic())
        if len(arrived) in {1, 4}:
            await socket.admit()
            await socket.hear_anything()

    async def run() -> float:
        async with stub_gateway(admits_first_and_fourth) as stub:
            target = read_target(f"{stub}/")
            dialer = Dialer(target, loopback_sources(1))
            await dialer.prepare()
            hold = Hold(1, 1)
            job = Job(0, 1, target, [], "token", [IDENTITY], 5, hold=hold)
            held = Holding(job, hold, [LoadDevice(IDENTITY, "token", 0)], dialer)
            running = asyncio.create_task(held.run(time.monotonic()))
            await until(lambda: held.progress().held == 1, "the connection is open")
            dropped = time.monotonic()
            held.order(ComeBack(0.0, drop=True, reference_back_off=True))
            await until(lambda: held.progress().held == 0, "the connection is dropped")
            await until(lambda: held.progress().held == 1, "the connection is open again")
            held.order(Stop())
            await running
            return dropped

    dropped = uvloop.run(run())
    waits = [
        later - earlier
        for earlier, later in zip([dropped, *arrived[1:]], arrived[1:], strict=False)
    ]
    for wait, factor in zip(waits, (1, 2, 4), strict=True):
        assert factor * FIRST_SECONDS <= wait + 0.01 < (factor + 1) * FIRST_SECONDS + 0.1


def test_the_delay_of_clients_that_begin_late_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "REFERENCE_BACK_OFF_SECONDS", FIRST_SECONDS)

    async def admits(socket: Socket) -> None:
        await socket.admit()
        await socket.hear_anything()

    async def run() -> tuple[float, float]:
        async with stub_gateway(admits) as stub:
            target = read_target(f"{stub}/")
            dialer = Dialer(target, loopback_sources(1))
            await dialer.prepare()
            hold = Hold(1, 1)
            job = Job(0, 1, target, [], "token", [IDENTITY], 5, hold=hold)
            held = Holding(job, hold, [LoadDevice(IDENTITY, "token", 0)], dialer)
            running = asyncio.create_task(held.run(time.monotonic()))
            await until(lambda: held.progress().held == 1, "the connection is open")
            before = held.progress().late
            held.order(ComeBack(0.0, drop=True, reference_back_off=True))
            time.sleep(FIRST_SECONDS + LATE_SECONDS)  # noqa: ASYNC251  what a busy core does
            late = before
            async with asyncio.timeout(5):
                while late == before:
                    await asyncio.sleep(0.01)
                    late = held.progress().late
            held.order(Stop())
            await running
            return before, late

    before, late = uvloop.run(run())
    assert before == 0
    assert late > LATE_SECONDS / 2


def test_there_are_more_source_addresses_than_one_network_has() -> None:
    addresses = loopback_sources(4000)
    assert len(set(addresses)) == 4000
    assert addresses[:2] == ["127.0.0.1", "127.0.0.2"]
    assert not [item for item in addresses if item.endswith((".0", ".255"))]
