"""Heartbeat, lease and resynchronization with real processes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import pytest

from shared.bus.channels import EVENTS, inbox_channel
from shared.device.handshake import Close, Credentials
from shared.device.profile import CLI, NODE_HOST
from tests.e2e.metrics import metric
from tests.e2e.redis_admin import cut, subscribers
from tests.support.websocket.raw_socket import CLOSE, PING, TEXT, RawSocket
from tools.support.actors import Operator, log_lines, pair, wait_for_log
from tools.support.waiting import POLL_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartStack
    from tools.support.actors import SimulatedDevice
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

BEAT_SECONDS: Final = 0.3
LEASE_SECONDS: Final = 4.0
RECONNECT_SECONDS: Final = 2.0
"""Time limit for renewing a gateway's subscription."""
MARGIN_SECONDS: Final = 2.0
"""Extra time for a loaded machine, beyond a limit."""
RECOVERY_SECONDS: Final = 10.0
LEASE_LEFT: Final = "latchkey_gateway_lease_left_seconds"
LEASE_LOST: Final = Close(1013, "approval unavailable")

pytestmark = pytest.mark.usefixtures("restore_stack")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways with a short lease, for the whole module."""
    beat = {"BEAT_SECONDS": str(BEAT_SECONDS), "LEASE_SECONDS": str(LEASE_SECONDS)}
    return start_stack(approvals=2, gateways=2, gateway_env=beat)


@pytest.fixture
async def sockets() -> AsyncIterator[list[RawSocket]]:
    """Return the list of the test's live sockets; they are closed at the end."""
    sockets: list[RawSocket] = []
    yield sockets
    for raw in sockets:
        raw.hang_up()


async def enters(device: SimulatedDevice, gateway: ServiceProcess) -> RawSocket:
    """Admit a paired device on a raw socket."""
    raw = await RawSocket.open(gateway.port)
    credentials = Credentials(token=device.stack.gateway_token)
    answer = await raw.connect(device.key, device.profile, credentials)
    assert answer["ok"], answer
    return raw


async def health(raw: RawSocket) -> bool:
    """Send a request, and return whether it was served; ticks may precede the answer."""
    await raw.send_json({"type": "req", "id": "1", "method": "health"})
    while (frame := await raw.receive_text())["type"] == "event":
        pass
    return bool(frame["ok"])


async def closed_within(raw: RawSocket, seconds: float) -> Close:
    """Return the close, and fail if it took longer; presence events may precede it."""
    began = time.monotonic()
    while (frame := await raw.receive()).opcode != CLOSE:
        assert frame.opcode == PING or frame.json["event"] in {"tick", "presence"}
    took = time.monotonic() - began
    assert took < seconds + MARGIN_SECONDS, f"closed after {took:.1f} s"
    return frame.close


class TestLostEvents:
    async def test_an_event_closes_live_sockets_on_every_replica(
        self, stack: Stack, sockets: list[RawSocket]
    ) -> None:
        device = await pair(stack)
        sockets += [await enters(device, gateway) for gateway in stack.gateways]
        async with Operator(stack, stack.approvals[0]) as operator:
            (await operator.remove(device.device_id)).ok()
        for raw in sockets:
            assert await closed_within(raw, 2 * BEAT_SECONDS) == (4001, "device removed")
            await raw.send_json({"type": "req", "id": "late", "method": "health"})
            assert await raw.rest() == [], "requests then get no answer"

    @pytest.mark.parametrize("turn", range(4))
    async def test_the_connections_are_killed_at_the_moment_of_a_revoke(
        self, stack: Stack, turn: int
    ) -> None:
        device = await pair(stack, (CLI, NODE_HOST)[turn % 2])
        gateway = stack.gateways[turn % 2]
        boot_id = gateway.boot_id
        async with (
            await enters(device, gateway) as raw,
            Operator(stack, stack.approvals[turn // 2]) as operator,
        ):
            revoking = asyncio.create_task(operator.remove(device.device_id))
            assert await asyncio.to_thread(cut, stack, boot_id) >= 1
            (await revoking).ok()
            close = await closed_within(raw, 2 * BEAT_SECONDS + RECONNECT_SECONDS)
            assert close.code == 4001

    async def test_a_lost_event_is_recovered_by_the_heartbeat(self, stack: Stack) -> None:
        device, other = await pair(stack), await pair(stack)
        gateway = stack.gateways[0]
        boot_id = gateway.boot_id
        async with (
            await enters(device, gateway) as raw,
            await enters(other, gateway) as unconcerned,
            Operator(stack, stack.approvals[0]) as operator,
        ):
            listening = subscribers(stack, EVENTS)
            gateway.pause()
            await asyncio.to_thread(cut, stack, boot_id)
            assert subscribers(stack, inbox_channel(boot_id)) == 0
            assert subscribers(stack, EVENTS) == listening - 1
            (await operator.remove(device.device_id)).ok()
            gateway.resume()
            close = await closed_within(raw, 2 * BEAT_SECONDS + RECONNECT_SECONDS)
            assert close == (4001, "device removed"), "not by the end of the lease"
            assert await health(unconcerned)


class TestRedis:
    async def test_black_holed_live_sockets_end_with_the_lease(
        self, stack: Stack, sockets: list[RawSocket]
    ) -> None:
        devices = [await pair(stack, profile) for profile in (CLI, NODE_HOST)]
        sockets += [
            await enters(device, gateway) for device in devices for gateway in stack.gateways
        ]
        stack.redis.pause()
        closes = await asyncio.gather(*(closed_within(raw, LEASE_SECONDS) for raw in sockets))
        assert set(closes) == {LEASE_LOST}
        for gateway in stack.gateways:
            await wait_for_log(gateway, "lease.lost")
            refused = await devices[0].expect_refusal(gateway)
            assert refused.code == "UNAVAILABLE"
            assert refused.close is not None
            assert refused.close.code == 1013
            await gateway.until_not_ready()
        stack.redis.resume()
        for service in stack.services:
            await service.until_ready(seconds=RECOVERY_SECONDS)
        for gateway in stack.gateways:
            for device in devices:
                await device.reconnect(gateway, with_gateway_token=False)

    async def test_killed_and_started_whose_lease_held_stay_and_work(
        self, stack: Stack, sockets: list[RawSocket]
    ) -> None:
        device = await pair(stack)
        sockets += [await enters(device, gateway) for gateway in stack.gateways]
        losts = [len(log_lines(gateway, "history.lost")) for gateway in stack.gateways]
        stack.redis.kill9()
        assert [await health(raw) for raw in sockets] == [True, True]
        stack.redis.start()
        for service in stack.services:
            await service.until_ready(seconds=RECOVERY_SECONDS)
        assert [await health(raw) for raw in sockets] == [True, True]
        assert losts == [len(log_lines(gateway, "history.lost")) for gateway in stack.gateways]
        async with Operator(stack, stack.approvals[0]) as operator:
            (await operator.remove(device.device_id)).ok()
        for raw in sockets:
            assert (await closed_within(raw, 2 * BEAT_SECONDS)).code == 4001

    async def test_when_redis_is_emptied_all_are_closed_and_checked_again(
        self, stack: Stack, sockets: list[RawSocket]
    ) -> None:
        devices = [await pair(stack, profile) for profile in (CLI, NODE_HOST)]
        sockets += [
            await enters(device, gateway) for device in devices for gateway in stack.gateways
        ]
        stack.redis.call("FLUSHALL")
        for raw in sockets:
            assert await closed_within(raw, LEASE_SECONDS) == (1012, "history lost")
        for gateway in stack.gateways:
            await wait_for_log(gateway, "history.lost")
            for device in devices:
                await device.request_pairing(gateway)
                refused = await device.expect_refusal(gateway, with_gateway_token=False)
                assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"

    async def test_clients_that_connect_meanwhile_are_never_admitted(self, stack: Stack) -> None:
        device = await pair(stack)
        stack.redis.call("FLUSHALL")
        for _ in range(20):
            for gateway in stack.gateways:
                refused = await device.expect_refusal(gateway)
                assert refused.code in {"NOT_PAIRED", "UNAVAILABLE"}


class TestStoppedGateway:
    async def test_nothing_is_served_to_a_device_revoked_meanwhile(self, stack: Stack) -> None:
        """No queued frame is served, although a woken process handles sockets before its timers."""
        device = await pair(stack)
        gateway, other = stack.gateways
        async with (
            await enters(device, gateway) as raw,
            await enters(device, other) as elsewhere,
            Operator(stack, stack.approvals[0]) as operator,
        ):
            assert await health(raw)
            gateway.pause()
            began = time.monotonic()
            (await operator.remove(device.device_id)).ok()
            assert (await closed_within(elsewhere, 2 * BEAT_SECONDS)).code == 4001
            for number in range(40):
                frame = {"type": "req", "id": str(number), "method": "health"}
                await raw.send_json(frame)
            await until(
                lambda: time.monotonic() - began > LEASE_SECONDS + BEAT_SECONDS,
                "the lease has ended",
            )
            gateway.resume()
            frames = await raw.rest()
        texts = [frame.json for frame in frames if frame.opcode == TEXT]
        assert [text for text in texts if text["type"] == "res"] == []
        (close,) = [frame.close for frame in frames if frame.opcode == CLOSE]
        assert close.code in {1013, 4001}


class TestApprovals:
    @pytest.mark.parametrize("mode", ["killed", "stopped"])
    async def test_live_sockets_end_with_the_lease_while_all_approvals_are_away(
        self, stack: Stack, sockets: list[RawSocket], mode: str
    ) -> None:
        device = await pair(stack)
        sockets += [await enters(device, gateway) for gateway in stack.gateways]
        for approval in stack.approvals:
            approval.kill9() if mode == "killed" else approval.pause()
        assert [await health(raw) for raw in sockets] == [True, True], "the lease still runs"
        refusals = await asyncio.gather(
            *(device.expect_refusal(gateway) for gateway in stack.gateways)
        )
        assert {refused.code for refused in refusals} == {"UNAVAILABLE"}
        closes = await asyncio.gather(*(closed_within(raw, LEASE_SECONDS) for raw in sockets))
        assert set(closes) == {LEASE_LOST}
        for approval in stack.approvals:
            approval.start() if mode == "killed" else approval.resume()
        for service in stack.services:
            await service.until_ready(seconds=RECOVERY_SECONDS)
        for gateway in stack.gateways:
            await device.reconnect(gateway, with_gateway_token=False)

    @pytest.mark.parametrize("which", [0, 1])
    async def test_the_lease_continues_while_one_approval_is_stopped(
        self, stack: Stack, sockets: list[RawSocket], which: int
    ) -> None:
        device = await pair(stack)
        sockets += [await enters(device, gateway) for gateway in stack.gateways]
        stack.approvals[which].pause()
        began = time.monotonic()
        left: list[float] = []
        while time.monotonic() - began < 2 * LEASE_SECONDS:
            left += [await metric(gateway, LEASE_LEFT) for gateway in stack.gateways]
            assert [await health(raw) for raw in sockets] == [True, True]
            await asyncio.sleep(POLL_SECONDS)
        assert min(left) > LEASE_SECONDS / 4
