"""Connected devices and events, as an operator sees them at any approval replica."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from shared.device.handshake import Admitted
from shared.device.profile import CONTROL_UI
from tests.e2e.metrics import metric
from tests.support.http.events import EventReader
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

BEAT_SECONDS: Final = 0.2
LEASE_SECONDS: Final = 3.0
SOON_SECONDS: Final = 5.0
"""Two heartbeats, with reserve for a busy machine."""
LEASE_LEFT: Final = "latchkey_gateway_lease_left_seconds"


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Start two of each, with frequent heartbeats."""
    return start_stack(
        approvals=2,
        gateway_env={"BEAT_SECONDS": str(BEAT_SECONDS), "LEASE_SECONDS": str(LEASE_SECONDS)},
    )


async def shown(stack: Stack, device_id: str) -> list[dict[str, Any]]:
    """Return a device as each approval replica shows it."""
    found = []
    for approval in stack.approvals:
        async with Operator(stack, approval) as operator:
            found.append((await operator.call("GET", f"devices/{device_id}")).ok())
    return found


async def until_shown(
    stack: Stack,
    device_id: str,
    condition: Callable[[dict[str, Any]], object],
    description: str,
    *,
    seconds: float = SOON_SECONDS,
) -> dict[str, Any]:
    """Return a device once every approval replica shows it in this state."""
    deadline = time.monotonic() + seconds
    while True:
        found = await shown(stack, device_id)
        if all(map(condition, found)):
            return found[0]
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {description}; last {found}"
        await asyncio.sleep(POLL_SECONDS)


def at(*gateways: str) -> Callable[[dict[str, Any]], bool]:
    """Return whether a device is connected at exactly these gateways."""
    return lambda item: (
        item["connected"] == bool(gateways) and sorted(item["replicas"]) == sorted(gateways)
    )


@contextlib.asynccontextmanager
async def listening(
    stack: Stack, approval: ServiceProcess, last_id: int | None = None
) -> AsyncIterator[EventReader]:
    """Listen to the events."""
    headers = {"Authorization": f"Bearer {stack.admin_token}"}
    if last_id is not None:
        headers["Last-Event-ID"] = str(last_id)
    url = f"{approval.url}/v1/events"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response,
    ):
        assert response.status == 200, await response.text()
        yield EventReader(response)


class TestConnected:
    async def test_a_device_appears_and_disappears(self, stack: Stack) -> None:
        device = await pair(stack)
        first, second = (gateway.boot_id for gateway in stack.gateways)
        await until_shown(stack, device.device_id, at(), "nowhere yet")
        entry, _hello = await device.stay_connected(stack.gateways[0])
        await until_shown(stack, device.device_id, at(first), "connected to the first")
        other, _hello = await device.stay_connected(stack.gateways[1])
        await until_shown(stack, device.device_id, at(first, second), "connected to both")
        await entry.close()
        await until_shown(stack, device.device_id, at(second), "connected to the second")
        await other.close()
        await until_shown(stack, device.device_id, at(), "gone")

    async def test_a_gateway_that_dies_takes_its_devices_with_it(self, stack: Stack) -> None:
        device = await pair(stack)
        gateway = stack.add_gateway()
        boot_id = gateway.boot_id
        client, _hello = await device.stay_connected(gateway)
        await until_shown(stack, device.device_id, at(boot_id), "connected")
        gateway.kill9()
        await until_shown(
            stack, device.device_id, at(), "vanished", seconds=LEASE_SECONDS + SOON_SECONDS
        )
        await client.close()

    async def test_the_connection_state_of_every_device_is_listed(self, stack: Stack) -> None:
        here, away = await pair(stack), await pair(stack, CONTROL_UI)
        async with here.client(stack.gateways[1]) as client:
            assert isinstance(await client.connect(), Admitted)
            deadline = time.monotonic() + SOON_SECONDS
            async with Operator(stack, stack.approvals[1]) as operator:
                while True:
                    listed = (await operator.call("GET", "devices")).ok()["devices"]
                    connected = {item["deviceId"]: item["connected"] for item in listed}
                    if (connected[here.device_id], connected[away.device_id]) == (True, False):
                        break
                    assert time.monotonic() < deadline, connected
                    await asyncio.sleep(POLL_SECONDS)


class TestSeen:
    async def test_last_seen_moves_with_every_session(self, stack: Stack) -> None:
        device = await pair(stack)
        entry = await until_shown(
            stack, device.device_id, lambda item: "lastSeenAtMs" in item, "seen once"
        )
        assert entry["lastSeenReason"] == "connect"
        assert "lastUsedAtMs" not in entry["tokens"][0]
        before = entry["lastSeenAtMs"]
        await device.connect_once(stack.gateways[1], with_gateway_token=False)
        entry = await until_shown(
            stack,
            device.device_id,
            lambda item: "lastUsedAtMs" in item["tokens"][0],
            "seen with its device token",
        )
        assert entry["tokens"][0]["lastUsedAtMs"] == entry["lastSeenAtMs"] > before

    async def test_last_seen_times_are_reported_after_approval_was_away(
        self, start_stack: StartStack
    ) -> None:
        """An unanswered heartbeat loses nothing; the lease outlasts the outage."""
        beat_seconds, lease_seconds = 5, 60
        alone = start_stack(
            gateways=1,
            gateway_env={"BEAT_SECONDS": str(beat_seconds), "LEASE_SECONDS": str(lease_seconds)},
        )
        (approval,), (gateway,) = alone.approvals, alone.gateways
        device = await pair(alone)
        entry = await until_shown(
            alone, device.device_id, lambda item: "lastSeenAtMs" in item, "seen", seconds=20
        )
        before = entry["lastSeenAtMs"]
        await device.connect_once(gateway)
        approval.kill9()
        async with asyncio.timeout(4 * beat_seconds):  # until a heartbeat has gone unanswered
            at_least = lease_seconds - beat_seconds - 0.5
            while await metric(gateway, LEASE_LEFT) > at_least:  # noqa: ASYNC110 (asked for)
                await asyncio.sleep(POLL_SECONDS)
        approval.start()
        await approval.until_ready()
        await until_shown(
            alone,
            device.device_id,
            lambda item: item["lastSeenAtMs"] > before,
            "seen again",
            seconds=20,
        )


class TestReplicas:
    async def test_all_live_replicas_are_listed(self, stack: Stack) -> None:
        device = await pair(stack)
        client, _hello = await device.stay_connected(stack.gateways[0])
        first = stack.gateways[0].boot_id
        await until_shown(stack, device.device_id, at(first), "connected")
        alive = {gateway.boot_id for gateway in stack.gateways if gateway.status is None}
        deadline = time.monotonic() + LEASE_SECONDS + SOON_SECONDS
        async with Operator(stack, stack.approvals[1]) as operator:
            while True:
                found = (await operator.call("GET", "replicas")).ok()
                gateways = {gateway["bootId"]: gateway for gateway in found["gateways"]}
                caught_up = all(gateway.get("changesBehind") == 0 for gateway in gateways.values())
                if gateways.keys() == alive and caught_up:
                    break
                assert time.monotonic() < deadline, found
                await asyncio.sleep(POLL_SECONDS)
        assert gateways[first]["connections"] == 1
        for gateway in gateways.values():
            assert 0 <= gateway["lastBeatAgoMs"] < LEASE_SECONDS * 1000
        approvals = {approval["bootId"] for approval in found["approvals"]}
        assert {approval.boot_id for approval in stack.approvals} <= approvals
        await client.close()


class TestEvents:
    async def test_events_are_live_while_somebody_approves_at_the_other_replica(
        self, stack: Stack
    ) -> None:
        here, there = stack.approvals
        device = SimulatedDevice(stack)
        async with listening(stack, here) as listener:
            await listener.begun()
            request_id = await device.request_pairing(stack.gateways[0])
            (asked,) = await listener.take(1)
            assert (asked.name, asked.data["requestId"]) == ("requested", request_id)
            async with Operator(stack, there) as operator:
                (await operator.approve(request_id)).ok()
            (approved,) = await listener.take(1)
            assert (approved.id, approved.name) == (asked.id + 1, "approved")
            assert approved.data["deviceId"] == device.device_id

    async def test_events_continue_at_the_other_replica_after_a_kill(self, stack: Stack) -> None:
        here, there = stack.approvals
        received = []
        async with listening(stack, here) as listener:
            place = await listener.begun()
            await SimulatedDevice(stack).request_pairing(stack.gateways[0])
            received += await listener.take(1)
            here.kill9()
            with contextlib.suppress(aiohttp.ClientError):
                assert await listener.next() is None
        for _ in range(3):
            await SimulatedDevice(stack).request_pairing(stack.gateways[1])
        async with listening(stack, there, listener.last_id) as listener:
            received += await listener.take(3)
        assert [event.id for event in received] == [place + number for number in (1, 2, 3, 4)]
        here.restart()

    async def test_end_when_the_replica_is_stopped(self, stack: Stack) -> None:
        approval = stack.add_approval()
        async with listening(stack, approval) as listener:
            await listener.begun()
            approval.terminate()
            assert await listener.next() is None
        assert await approval.until_ended(seconds=4) == 0
