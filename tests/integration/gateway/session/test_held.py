"""Clients that are held until their device is approved, at one gateway with a scripted approval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.connections.held import HoldEnd
from services.gateway.connections.hub import RESTART_REASON
from services.gateway.session.handler import SessionHandler
from services.gateway.session.holding import HoldingSession
from shared.bus.errors import Unavailable
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CONTROL_UI, NODE_HOST, NODE_HOST_3, REFERENCE
from shared.protocol.limits import QUEUED_FRAMES_LIMIT
from shared.rpc.messages import Changed, Position
from tests.integration.gateway.harness import TOKEN, GatewayHarness, socket_of
from tests.support.clock import turns
from tests.support.websocket.raw_socket import CLOSE, PING, PONG, RawSocket
from tools.support.peers import admit, want_pairing
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.device.profile import Profile
    from shared.rpc.messages import Answer, AuthorizeDevice

GOOD = Credentials(token=TOKEN)
HEALTH = b'{"type":"req","id":"1","method":"health"}'
PAIRING_CLOSE = 1008


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayHarness]:
    """Return a gateway that holds clients for as long as they wait."""
    async with GatewayHarness(hold_seconds=30.0) as harness:
        harness.approvals.answer = want_pairing
        yield harness


async def held(
    gateway: GatewayHarness, profile: Profile = CLI, key: DeviceKey | None = None
) -> tuple[RawSocket, DeviceKey]:
    """Connect a client, and wait until it is held."""
    key = key or DeviceKey.generate()
    asked = len(gateway.approvals.asked)
    raw = await gateway.raw()
    await raw.challenge()
    await raw.send_json(raw.connect_frame(key, profile, GOOD))
    await until(lambda: len(gateway.approvals.asked) > asked, "approval is asked")
    await until(lambda: not gateway.approvals.answering, "approval has answered")
    return raw, key


def change(gateway: GatewayHarness, kind: str, key: DeviceKey) -> None:
    """Apply a change of a device."""
    gateway.connections.held.on_change(Changed(Position(2, "u"), "t", key.device_id, kind, 0))


async def refusal(raw: RawSocket) -> Any:
    """Return the error that a client gets, once its connection is closed with 1008."""
    response = await raw.receive_text()
    assert not response["ok"]
    assert (await raw.closed()).code == PAIRING_CLOSE
    return response["error"]


async def refused_at_once(profile: Profile, key: DeviceKey) -> Any:
    """Return the error that a client gets from a gateway that holds nobody."""
    async with GatewayHarness() as gateway:
        gateway.approvals.answer = want_pairing
        raw = await gateway.raw()
        response = await raw.connect(key, profile, GOOD)
        return response["error"]


def without_id(error: Any) -> Any:
    details = {name: value for name, value in error["details"].items() if name != "connectionId"}
    return {**error, "details": details}


class TestDecided:
    @pytest.mark.parametrize("profile", [CLI, NODE_HOST, NODE_HOST_3, REFERENCE])
    async def test_an_approval_admits_in_the_same_connect(
        self, gateway: GatewayHarness, profile: Profile
    ) -> None:
        raw, key = await held(gateway, profile)
        assert len(gateway.connections.held) == 1
        gateway.approvals.answer = admit
        change(gateway, "approved", key)
        response = await raw.receive_text()
        assert response["ok"], response
        first, again = gateway.approvals.asked
        assert again.call_id == f"{first.call_id}#held-1", "another question, not another attempt"
        assert gateway.connections.admitted == 1
        assert len(gateway.connections.held) == gateway.connections.pending == 0

    async def test_it_is_admitted_long_after_the_deadline_of_a_handshake(
        self, gateway: GatewayHarness
    ) -> None:
        raw, key = await held(gateway, NODE_HOST_3)
        await gateway.pass_time(27)
        gateway.approvals.answer = admit
        change(gateway, "approved", key)
        assert (await raw.receive_text())["ok"]

    async def test_a_rejection_is_todays_refusal_without_another_request(
        self, gateway: GatewayHarness
    ) -> None:
        raw, key = await held(gateway)
        change(gateway, "rejected", key)
        assert without_id(await refusal(raw)) == without_id(await refused_at_once(CLI, key))
        assert len(gateway.approvals.asked) == 1, "asking again would file another request"

    async def test_an_approval_of_less_leaves_it_held(self, gateway: GatewayHarness) -> None:
        raw, key = await held(gateway)
        change(gateway, "approved", key)
        await until(lambda: len(gateway.approvals.asked) == 2, "approval is asked again")
        await until(lambda: len(gateway.connections.held) == 1, "it is held again")
        gateway.approvals.answer = admit
        change(gateway, "approved", key)
        assert (await raw.receive_text())["ok"]

    async def test_approval_may_be_away_by_then(self, gateway: GatewayHarness) -> None:
        raw, key = await held(gateway)
        gateway.approvals.answer = away
        change(gateway, "approved", key)
        response = await raw.receive_text()
        assert response["error"]["code"] == "UNAVAILABLE"


class TestTime:
    @pytest.mark.parametrize(
        ("profile", "seconds"), [(CLI, 8), (NODE_HOST, 10), (REFERENCE, 13), (NODE_HOST_3, 28)]
    )
    async def test_after_its_time_each_client_gets_todays_refusal(
        self, gateway: GatewayHarness, profile: Profile, seconds: int
    ) -> None:
        raw, key = await held(gateway, profile)
        await gateway.pass_time(seconds - 1)
        assert len(gateway.connections.held) == 1
        await gateway.pass_time(1.5)
        expected = await refused_at_once(profile, key)
        assert without_id(await refusal(raw)) == without_id(expected)
        assert gateway.connections.held.ended[HoldEnd.TIME] == 1

    async def test_the_setting_may_be_shorter(self) -> None:
        async with GatewayHarness(hold_seconds=3.0) as gateway:
            gateway.approvals.answer = want_pairing
            raw, _key = await held(gateway, NODE_HOST_3)
            await gateway.pass_time(3.5)
            await refusal(raw)

    async def test_a_client_that_is_not_in_the_table_is_refused_at_once(
        self, gateway: GatewayHarness
    ) -> None:
        raw = await gateway.raw(headers=[("Origin", f"http://127.0.0.1:{gateway.port}")])
        response = await raw.connect(DeviceKey.generate(), CONTROL_UI, GOOD)
        assert response["error"]["code"] == "NOT_PAIRED"


class TestOff:
    async def test_a_gateway_that_holds_nobody_uses_the_plain_session(
        self, harness: GatewayHarness, gateway: GatewayHarness
    ) -> None:
        for one, kind in ((harness, SessionHandler), (gateway, HoldingSession)):
            await (await one.raw()).challenge()
            (connection,) = one.open_connections
            assert type(socket_of(connection)._handler) is kind


class TestMeanwhile:
    async def test_pings_are_answered(self, gateway: GatewayHarness) -> None:
        raw, _key = await held(gateway)
        await raw.send(b"still there?", PING)
        assert (await raw.receive()).opcode == PONG

    async def test_frames_are_served_once_it_is_admitted(self, gateway: GatewayHarness) -> None:
        raw, key = await held(gateway)
        await raw.send(HEALTH)
        await turns(5)
        gateway.approvals.answer = admit
        change(gateway, "approved", key)
        assert (await raw.receive_text())["payload"]["type"] == "hello-ok"
        assert (await raw.receive_text())["id"] == "1"

    async def test_too_many_frames_are_not_admitted(self, gateway: GatewayHarness) -> None:
        raw, key = await held(gateway)
        for _ in range(QUEUED_FRAMES_LIMIT + 1):
            await raw.send(HEALTH)
        await raw.send(b"all read?", PING)
        assert (await raw.receive()).opcode == PONG
        gateway.approvals.answer = admit
        change(gateway, "approved", key)
        await until(lambda: gateway.connections.held.ended[HoldEnd.GRANTED] == 1, "it is asked")
        assert (await raw.closed()).code == PAIRING_CLOSE
        assert gateway.connections.admitted == 0

    async def test_too_many_bytes_close_it_at_once(self, gateway: GatewayHarness) -> None:
        raw, _key = await held(gateway)
        for _ in range(3):
            await raw.send(b"x" * 60_000)
        frame = await raw.receive()
        assert frame.opcode == CLOSE
        assert frame.close.code == 1009
        assert gateway.connections.held.ended[HoldEnd.GONE] == 1

    async def test_one_that_leaves_is_forgotten(self, gateway: GatewayHarness) -> None:
        raw, key = await held(gateway)
        raw.hang_up()
        await gateway.empty()
        change(gateway, "approved", key)
        await turns(5)
        assert len(gateway.approvals.asked) == 1
        assert gateway.connections.held.ended[HoldEnd.GONE] == 1


class TestGivingWay:
    async def test_the_older_connection_of_a_device(self, gateway: GatewayHarness) -> None:
        raw, key = await held(gateway)
        newer, _key = await held(gateway, key=key)
        await refusal(raw)
        gateway.approvals.answer = admit
        change(gateway, "approved", key)
        assert (await newer.receive_text())["ok"]

    async def test_an_address_keeps_half_of_its_places_for_others(self) -> None:
        async with GatewayHarness(hold_seconds=30.0, preauth_limit=4) as gateway:
            gateway.approvals.answer = want_pairing
            held_sockets = [(await held(gateway))[0] for _ in range(2)]
            raw = await gateway.raw()
            response = await raw.connect(DeviceKey.generate(), CLI, GOOD)
            assert response["error"]["code"] == "NOT_PAIRED", "no more are held"
            for _ in range(2):
                await (await gateway.raw()).challenge()
            assert len(gateway.connections.held) == 2
            await (await gateway.raw()).challenge()
            await refusal(held_sockets[0])
            assert len(gateway.connections.held) == 1
            assert not any(gateway.connections.places.displaced.values())

    async def test_when_no_place_is_left_before_anybody_else(self) -> None:
        async with GatewayHarness(hold_seconds=30.0, connection_limit=4) as gateway:
            older = await gateway.raw()
            await older.challenge()
            gateway.approvals.answer = want_pairing
            raw, _key = await held(gateway)
            gateway.approvals.answer = admit
            for _ in range(3):
                await gateway.admitted()
            await refusal(raw)
            assert gateway.connections.pending == 1, "who has not sent its connect yet stays"


class TestEnds:
    async def test_history_lost(self, gateway: GatewayHarness) -> None:
        raw, _key = await held(gateway)
        gateway.connections.mark_closing(gateway.clock.monotonic())
        await gateway.pass_time(0.25)
        response = await raw.receive_text()
        assert response["error"]["code"] == "UNAVAILABLE"
        assert response["error"]["retryable"]
        assert (await raw.closed()).code == 1013

    @pytest.mark.parametrize("profile", [CLI, NODE_HOST_3])
    async def test_drain_refuses_whoever_would_not_come_back(
        self, gateway: GatewayHarness, profile: Profile
    ) -> None:
        raw, _key = await held(gateway, profile)
        gateway.connections.drain(gateway.clock.monotonic() + 10)
        await gateway.pass_time(0.25)
        assert (await refusal(raw))["code"] == "NOT_PAIRED"

    @pytest.mark.parametrize("profile", [NODE_HOST, REFERENCE])
    async def test_drain_sends_others_to_another_replica(
        self, gateway: GatewayHarness, profile: Profile
    ) -> None:
        raw, _key = await held(gateway, profile)
        gateway.connections.drain(gateway.clock.monotonic() + 10)
        await gateway.pass_time(0.25)
        assert await raw.closed() == (1012, RESTART_REASON)


async def away(_question: AuthorizeDevice) -> Answer:
    raise Unavailable("no-responder")
