"""What a gateway serves, and whom it admits, when its lease or its history is gone (R7, R8)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from services.gateway.connections.deadlines import SWEEP_SECONDS
from services.gateway.connections.hub import LEASE_LOST_REASON
from shared.bus.errors import Unavailable
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.support.clock import turns
from tests.support.websocket.raw_socket import CLOSE, PING, PONG
from tools.support.waiting import until

if TYPE_CHECKING:
    from shared.rpc.messages import Answer, AuthorizeDevice

GOOD = Credentials(token=TOKEN)
HEALTH = b'{"type":"req","id":"1","method":"health"}'


class TestLeaseIsOver:
    async def test_a_frame_is_not_served_though_no_timer_has_run(
        self, harness: GatewayHarness
    ) -> None:
        """A process that was stopped handles old frames before its timers."""
        raw, connection = await harness.admitted()
        harness.approvals.leased = False
        for _ in range(3):
            await raw.send(HEALTH)
        assert await raw.closed() == (1013, LEASE_LOST_REASON)
        await until(lambda: connection.closing, "it is closed")
        await harness.pass_time(2)
        assert await raw.rest() == []

    async def test_no_ping_is_answered(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted()
        harness.approvals.leased = False
        await raw.send(b"still there?", PING)
        frame = await raw.receive()
        assert frame.opcode == CLOSE
        assert frame.close == (1013, LEASE_LOST_REASON)
        assert connection.closing

    async def test_unadmitted_clients_get_a_refusal(self, harness: GatewayHarness) -> None:
        harness.approvals.leased = False
        raw = await harness.raw()
        await raw.challenge()
        await raw.send(b"still there?", PING)
        assert (await raw.receive()).opcode == PONG

    async def test_nobody_is_admitted(self, harness: GatewayHarness) -> None:
        harness.approvals.answer = no_lease
        harness.approvals.leased = False
        for key in (DeviceKey.generate(), None):
            raw = await harness.raw()
            answer = await raw.connect(key, CLI, GOOD)
            assert answer["error"]["code"] == "UNAVAILABLE"
            assert (await raw.closed()).code == 1013
        assert harness.connections.admitted == 0


async def no_lease(_question: AuthorizeDevice) -> Answer:
    raise Unavailable("no-lease")


class TestHistoryIsLost:
    async def test_nothing_is_served_from_that_turn_on(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted()
        harness.connections.mark_closing(harness.clock.monotonic() + 10)
        connection.pinged = True
        await raw.send(HEALTH)
        await until(lambda: not connection.pinged, "the frame has come")
        await turns()
        await harness.pass_time(SWEEP_SECONDS)
        assert await raw.closed() == (1012, "history lost")

    async def test_closes_are_spread_over_what_is_left_of_the_lease(
        self, harness: GatewayHarness
    ) -> None:
        raws = [(await harness.admitted())[0] for _ in range(20)]
        harness.connections.mark_closing(harness.clock.monotonic() + 10 * SWEEP_SECONDS)
        left = []
        for _ in range(10):
            await harness.pass_time(SWEEP_SECONDS)
            left.append(harness.connections.admitted)
        assert left[-1] == 0
        assert all(before - after <= 3 for before, after in pairwise([20, *left]))
        for raw in raws:
            assert (await raw.closed()).code == 1012

    async def test_newcomers_are_not_among_them(self, harness: GatewayHarness) -> None:
        old, _ = await harness.admitted()
        harness.connections.mark_closing(harness.clock.monotonic() + 1)
        new, connection = await harness.admitted()
        await harness.pass_time(2)
        assert (await old.closed()).code == 1012
        assert not connection.closing
        await new.send(HEALTH)
        while (frame := await new.receive_text())["type"] == "event":
            pass
        assert frame["ok"]
