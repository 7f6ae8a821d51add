"""Revocation during an outage takes effect within the lease, whatever fails."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from redis.asyncio import Redis

from shared.bus.channels import EVENTS, inbox_channel
from shared.device.handshake import Close
from tests.e2e.redis_admin import cut
from tools.support.actors import Operator, log_lines, pair
from tools.support.proxies.faults import FaultProxy
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.device.client import DeviceClient
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

BEAT_SECONDS: Final = 0.3
LEASE_SECONDS: Final = 4.0
MARGIN_SECONDS: Final = 2.0
"""Extra time for a loaded machine, beyond a limit."""
LEASE_LOST: Final = Close(1013, "approval unavailable")
REVOKED: Final = 4001
ROUNDS: Final = 4
LIMIT: Final = "client-output-buffer-limit"
BUFFER_BYTES: Final = 262_144


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways with a short lease, for the whole module."""
    beat = {"BEAT_SECONDS": str(BEAT_SECONDS), "LEASE_SECONDS": str(LEASE_SECONDS)}
    return start_stack(approvals=2, gateways=2, gateway_env=beat)


@pytest.fixture(autouse=True)
def _restore_stack(stack: Stack) -> Iterator[None]:
    """Restore everything except what a test has added."""
    yield
    services = [*stack.approvals, *stack.gateways[:2]]
    stack.redis.bring_back()
    for service in services:
        service.bring_back()
    for service in services:
        service.wait_ready()


async def closed_in_time(client: DeviceClient, since: float) -> Close:
    """Return the close; fail if it came later than one lease after a moment."""
    close = await client.closed(within=LEASE_SECONDS + MARGIN_SECONDS)
    took = time.monotonic() - since
    assert took < LEASE_SECONDS + MARGIN_SECONDS, f"closed after {took:.1f} s"
    return close


class TestRevokedDuringAnOutage:
    async def test_a_replica_whose_link_is_black_holed_closes_when_its_lease_ends(
        self, stack: Stack
    ) -> None:
        """The others close at once; this one receives nothing, and closes when its lease ends."""
        device, stranger = await pair(stack), await pair(stack)
        async with FaultProxy(stack.redis.port) as relay:
            url = stack.redis.gateway_url.replace(f":{stack.redis.port}/", f":{relay.port}/")
            gateway = await asyncio.to_thread(stack.add_gateway, REDIS_URL=url)
            try:
                cut_off, _ = await device.stay_connected(gateway)
                elsewhere, _ = await device.stay_connected(stack.gateways[0])
                async with cut_off, elsewhere, Operator(stack, stack.approvals[0]) as operator:
                    relay.hold()
                    since = time.monotonic()
                    (await operator.revoke(device.device_id)).ok()
                    assert (await elsewhere.closed()).code == REVOKED
                    assert await closed_in_time(cut_off, since) == LEASE_LOST
                refused = await device.expect_refusal(gateway, with_gateway_token=False)
                assert (refused.code, refused.details["dependency"]) == ("UNAVAILABLE", "redis")
                assert (await stranger.expect_refusal(gateway)).code == "UNAVAILABLE"
                assert relay.accepted > 2, "it tried to come back"
            finally:
                gateway.kill9()

    @pytest.mark.parametrize("turn", range(ROUNDS))
    async def test_a_revoke_is_effective_although_redis_restarts(
        self, stack: Stack, turn: int
    ) -> None:
        """The revoke is on disk when it is answered, but its event may be lost."""
        device = await pair(stack)
        clients = [(await device.stay_connected(gateway))[0] for gateway in stack.gateways[:2]]
        async with clients[0], clients[1], Operator(stack, stack.approvals[turn % 2]) as operator:
            since = time.monotonic()
            (await operator.revoke(device.device_id)).ok()
            stack.redis.kill9()
            await asyncio.to_thread(stack.redis.start)
            closes = [await closed_in_time(client, since) for client in clients]
        assert {close.code for close in closes} <= {REVOKED, 1013}
        for gateway in stack.gateways[:2]:
            await gateway.until_ready()
            assert (await device.expect_refusal(gateway)).code in {"NOT_PAIRED", "UNAVAILABLE"}

    async def test_a_revoke_is_effective_although_approvals_go_down(self, stack: Stack) -> None:
        """The gateway misses the event, and no approval is left to answer its heartbeat."""
        device = await pair(stack)
        gateway = stack.gateways[0]
        boot_id = gateway.boot_id
        client, _ = await device.stay_connected(gateway)
        async with client, Operator(stack, stack.approvals[0]) as operator:
            gateway.pause()
            await asyncio.to_thread(cut, stack, boot_id)
            since = time.monotonic()
            (await operator.revoke(device.device_id)).ok()
            for approval in stack.approvals:
                approval.kill9()
            gateway.resume()
            assert await closed_in_time(client, since) == LEASE_LOST
        assert (await device.expect_refusal(gateway)).code == "UNAVAILABLE"


class TestRevokedWhileSubscriptionsAreCut:
    @pytest.mark.parametrize("turn", range(ROUNDS))
    async def test_subscriptions_are_cut_for_their_output_buffer(
        self, stack: Stack, turn: int
    ) -> None:
        """They are renewed automatically, a heartbeat is sent at once, and no revoke is missed."""
        device, other = await pair(stack), await pair(stack)
        gateway = stack.gateways[turn % 2]
        boot_id = gateway.boot_id
        client, _ = await device.stay_connected(gateway)
        stays, _ = await other.stay_connected(gateway)
        lost = len(log_lines(gateway, "bus_lost"))
        resyncs = len(log_lines(gateway, "history.lost"))
        async with (
            client,
            stays,
            Operator(stack, stack.approvals[turn // 2]) as operator,
            Redis.from_url(stack.redis.admin_url, decode_responses=True) as admin,
        ):
            before: Any = await admin.config_get(LIMIT)
            await admin.config_set(LIMIT, "pubsub 1kb 1kb 1")
            try:
                flood = bytes(BUFFER_BYTES)
                since = time.monotonic()
                _, _, revoked = await asyncio.gather(
                    admin.publish(inbox_channel(boot_id), flood),
                    admin.publish(EVENTS, flood),
                    operator.revoke(device.device_id),
                )
                revoked.ok()
                assert (await closed_in_time(client, since)).code == REVOKED
                await until(lambda: len(log_lines(gateway, "bus_lost")) > lost, "it was cut off")
            finally:
                await admin.config_set(LIMIT, before[LIMIT])
            for service in (*stack.approvals, *stack.gateways[:2]):
                await service.until_ready()
            assert (await stays.call("health")).ok, "devices that were not revoked stay connected"
        assert len(log_lines(gateway, "history.lost")) == resyncs, "no history was lost"
        for gateway in stack.gateways[:2]:
            await other.reconnect(gateway, with_gateway_token=False)
            assert (await device.expect_refusal(gateway)).code == "NOT_PAIRED"
