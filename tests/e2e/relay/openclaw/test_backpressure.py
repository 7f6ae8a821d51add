"""A client is not read while its upstream does not read, so that nothing piles up in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.relay.devices import new_device
from tools.support.waiting import until

if TYPE_CHECKING:
    from tools.support.actors import Operator
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import StubOpenClaw

CALL: Final = '{"type":"req","id":"%d","method":"chat.send","params":{"text":"%s"}}'
TEXT: Final = "a" * 64_000
FRAMES: Final = 2_000
"""128 MB: far more than the buffers of four sockets hold."""
GROWTH_LIMIT_BYTES: Final = 16 * 1024 * 1024
STILL_SECONDS: Final = 1.5
"""A sender that sends nothing for this long counts as stopped."""
ADMITTED_SECONDS: Final = 0.7
"""By then a client is admitted, and its `connect` is on its way to the upstream."""


async def test_memory_does_not_grow_and_no_frame_is_lost(
    stack: Stack, operator: Operator, upstream: StubOpenClaw
) -> None:
    gateway, device = stack.gateways[0], new_device(stack)
    (await operator.approve(await device.request_pairing(gateway))).ok()
    client, _admitted = await device.connect_when_ready(gateway)
    session = [item for item in upstream.clients if item.params.get("device")][-1]
    upstream.reads.clear()
    before, sent = resident_bytes(gateway), 0

    async def send() -> None:
        nonlocal sent
        for number in range(FRAMES):
            await client.send_text(CALL % (number, TEXT))
            sent += 1

    sender = asyncio.create_task(send())
    try:
        while True:
            already = sent
            await asyncio.sleep(STILL_SECONDS)
            if sent == already > 0:
                break
        assert sent < FRAMES
        assert resident_bytes(gateway) - before < GROWTH_LIMIT_BYTES
    finally:
        upstream.reads.set()
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
    await until(lambda: len(session.frames) >= sent, "the frames that were sent arrive")
    assert [frame[:30] for frame in session.frames[:sent]] == [
        (CALL % (number, TEXT))[:30] for number in range(sent)
    ]
    await client.close()


@pytest.mark.parametrize(
    ("frames", "size"), [(1, 200_000), (3, 60_000)], ids=["a long one", "many"]
)
async def test_little_is_queued_for_an_upstream_that_does_not_answer_a_connect(
    stack: Stack, operator: Operator, upstream: StubOpenClaw, frames: int, size: int
) -> None:
    gateway, device = stack.gateways[0], new_device(stack)
    (await operator.approve(await device.request_pairing(gateway))).ok()
    client, _admitted = await device.connect_when_ready(gateway)
    await client.close()
    client = device.client(gateway)
    upstream.reads.clear()
    connecting = asyncio.create_task(client.connect())
    try:
        await asyncio.sleep(ADMITTED_SECONDS)
        for _ in range(frames):
            await client.send_text("a" * size)
        close = await client.closed(within=2)
    finally:
        upstream.reads.set()
        await asyncio.gather(connecting, return_exceptions=True)
    assert close.code == 1009


def resident_bytes(service: ServiceProcess) -> int:
    """Return the resident memory of a service."""
    status = Path(f"/proc/{service.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))
