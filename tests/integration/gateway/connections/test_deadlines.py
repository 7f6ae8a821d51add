"""Clients that stay silent, do not answer, or do not read."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.connections.close_queue import CLOSED_PER_TURN
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3, CONTROL_UI, NODE_HOST
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.support.websocket.raw_socket import PING, PONG, TEXT, Frame, RawSocket, frame_bytes
from tools.support.peers import admit, want_pairing
from tools.support.waiting import until

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from shared.device.profile import Profile
    from shared.rpc.messages import Answer, AuthorizeDevice

HANDSHAKE_DEADLINE_SECONDS = 15.0
CLOSING_SECONDS = 1.0
PING_SECONDS = 25.0
TICK_SECONDS = 30.0
LONG_ID = "x" * 1_000_000
REQUESTS = 12
STEP = 0.25
SMALL_BUFFER_BYTES = 4096


def request(request_id: str, method: str = "health") -> bytes:
    return b'{"type":"req","id":"%s","method":"%s"}' % (request_id.encode(), method.encode())


async def sent_nothing_else(raw: RawSocket) -> None:
    """Check that the gateway sent nothing so far: the next frame answers a ping."""
    await raw.send(b"any more?", PING)
    assert await raw.receive() == (PONG, b"any more?")


class TestHandshakeDeadline:
    async def test_a_silent_socket_is_closed_with_1000_and_no_frame(
        self, harness: GatewayHarness
    ) -> None:
        async with await harness.raw() as raw:
            await raw.challenge()
            await harness.pass_time(HANDSHAKE_DEADLINE_SECONDS - STEP)
            await sent_nothing_else(raw)
            await harness.pass_time(STEP)
            assert await raw.closed() == (1000, "")

    async def test_pings_and_single_bytes_do_not_extend_it(self, harness: GatewayHarness) -> None:
        frame = frame_bytes(b"x" * 100)
        async with await harness.raw() as raw:
            await raw.challenge()
            for at in range(int(HANDSHAKE_DEADLINE_SECONDS)):
                await raw.send_bytes(frame_bytes(b"", PING) if at < 7 else frame[at : at + 1])
                await harness.pass_time(1)
            assert [await raw.receive() for _ in range(7)] == [(PONG, b"")] * 7
            assert await raw.closed() == (1000, "")
        assert harness.approvals.asked == []

    async def test_it_also_ends_while_approval_decides(self, harness: GatewayHarness) -> None:
        decided = asyncio.Event()

        async def late(question: AuthorizeDevice) -> Answer:
            await decided.wait()
            return await admit(question)

        harness.approvals.answer = late
        async with await harness.raw() as raw:
            await raw.challenge()
            await raw.send_json(
                raw.connect_frame(DeviceKey.generate(), CLI, Credentials(token=TOKEN))
            )
            await until(lambda: harness.approvals.asked, "approval is asked")
            await harness.pass_time(HANDSHAKE_DEADLINE_SECONDS)
            decided.set()
            assert await raw.closed() == (1000, "")
            assert await raw_rest_after(harness, raw) == []
        assert harness.connections.admitted == 0

    async def test_connected_clients_have_met_it(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted()
        async with raw:
            await harness.pass_time(HANDSHAKE_DEADLINE_SECONDS + 1)
            assert not connection.closing


async def raw_rest_after(harness: GatewayHarness, raw: RawSocket) -> list[object]:
    """Return what still arrived on a closed socket, once the gateway has dropped it."""
    await harness.pass_time(CLOSING_SECONDS + STEP)
    return list(await raw.rest())


class TestCloseDeadline:
    """One second after our close frame the transport is closed, whatever the peer does."""

    async def test_a_peer_that_never_answers_the_close_is_closed(
        self, harness: GatewayHarness
    ) -> None:
        harness.approvals.answer = want_pairing
        async with await harness.raw() as raw:
            answer = await raw.connect(DeviceKey.generate(), CLI, Credentials(token=TOKEN))
            assert answer["error"]["code"] == "NOT_PAIRED"
            assert (await raw.closed()).code == 1008
            (connection,) = harness.open_connections
            await harness.pass_time(CLOSING_SECONDS - STEP)
            assert not connection.transport.is_closing()
            await harness.pass_time(STEP)
            assert await raw.rest() == []
        await harness.empty()

    async def test_a_peer_that_keeps_sending_is_closed(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted()
        async with raw:
            harness.connections.close(connection, 4001, "device removed")
            for _ in range(4):
                await raw.send(request("late"))
            assert await raw.closed() == (4001, "device removed")
            assert await raw_rest_after(harness, raw) == []
        await harness.empty()

    async def test_a_peer_that_does_not_read_is_closed(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted(receive_buffer=SMALL_BUFFER_BYTES)
        async with raw:
            await fill(raw, connection)
            device_id = connection.session.device_id if connection.session else ""
            assert harness.connections.close_device(device_id, ["*"], "device removed") == 1
            await harness.pass_time(CLOSING_SECONDS + STEP)
            await harness.empty()

    async def test_a_peer_that_neither_reads_nor_answers_pings_is_closed(
        self, harness: GatewayHarness
    ) -> None:
        raw, connection = await harness.admitted(receive_buffer=SMALL_BUFFER_BYTES)
        async with raw:
            await fill(raw, connection)
            await raw.send_close()
            await harness.pass_time(2 * PING_SECONDS)
            await harness.empty()

    async def test_a_good_end_is_at_once(self, harness: GatewayHarness) -> None:
        raw, _ = await harness.admitted()
        async with raw:
            await raw.send_close(1001)
            assert (await raw.closed()).code == 1001
            assert await raw.rest() == []
        await harness.empty()

    async def test_a_crowd_that_answers_ends_in_order_as_well(
        self, harness: GatewayHarness
    ) -> None:
        """Their answers are read late, but no deadline passes."""
        raws = [(await harness.admitted())[0] for _ in range(CLOSED_PER_TURN + 44)]
        assert harness.connections.close_admitted(1013, "approval unavailable") == len(raws)
        for raw in raws:
            assert await raw.closed() == (1013, "approval unavailable")
            await raw.send_close(1013)
        for raw in raws:
            assert await raw.rest() == []
        await harness.empty()

    @pytest.mark.parametrize("code", [5000, 65_535, 1100, 999])
    async def test_no_code_is_echoed_that_may_not_be_sent(
        self, harness: GatewayHarness, code: int
    ) -> None:
        raw, _ = await harness.admitted()
        async with raw:
            await raw.send_close(code)
            assert (await raw.closed()).code in {1000, 1002}

    async def test_a_close_without_a_code_is_answered(self, harness: GatewayHarness) -> None:
        raw, _ = await harness.admitted()
        async with raw:
            await raw.send(b"", 8)
            assert (await raw.closed()).code in {1000, 1005}
        await harness.empty()


async def fill(raw: RawSocket, connection: Connection) -> None:
    """Send many requests and read nothing, so that answers queue in the gateway."""
    while not connection.transport.get_write_buffer_size():
        await raw.send(request(LONG_ID))
        await asyncio.sleep(0)


class TestSlowReader:
    async def test_it_is_not_read_from_until_it_reads(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted(receive_buffer=SMALL_BUFFER_BYTES)
        async with raw:
            sent = asyncio.create_task(raw.send_bytes(frame_bytes(request(LONG_ID)) * REQUESTS))
            await until(lambda: harness.memory.held_bytes > 0, "answers wait")
            held = []
            for _ in range(20):
                await harness.pass_time(STEP)
                held.append(harness.memory.held_bytes)
            assert max(held) < 4 * len(LONG_ID), "it is asked for no more"
            for _ in range(REQUESTS):
                while (answer := await raw.receive_text())["type"] == "event":
                    pass
                assert answer["id"] == LONG_ID
            await sent
            await until(lambda: harness.memory.held_bytes == 0, "nothing waits")
            assert not connection.closing

    async def test_pings_are_not_answered_without_end(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted(receive_buffer=SMALL_BUFFER_BYTES)
        async with raw:
            await fill(raw, connection)
            pings = asyncio.create_task(raw.send_bytes(frame_bytes(b"x" * 125, PING) * 200_000))
            for _ in range(20):
                await harness.pass_time(STEP)
            assert connection.transport.get_write_buffer_size() < 4 * len(LONG_ID)
            assert not pings.done()
            pings.cancel()

    async def test_a_reading_client_may_request_more_in_total(
        self, harness: GatewayHarness
    ) -> None:
        raw, connection = await harness.admitted()
        async with raw:
            for _ in range(60):
                await raw.send(request(LONG_ID))
                assert (await raw.receive_text())["ok"]
            assert not connection.closing


class TestKeepalive:
    @pytest.mark.parametrize(
        "profile",
        [CLI, CLI_3, NODE_HOST, CONTROL_UI],
        ids=lambda case: f"{case.client_id}-{case.max_protocol}",
    )
    async def test_a_ping_is_sent_every_25_seconds(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, connection = await admitted_as(harness, profile)
        async with raw:
            for _ in range(4):
                await harness.pass_time(PING_SECONDS)
                assert connection.pinged
                await raw.send(b"", PONG)
                await until(lambda: not connection.pinged, "the pong is taken")
            await raw.send(b"end", PING)
            frames = []
            while (frame := await raw.receive()) != (PONG, b"end"):
                frames.append(frame)
        assert frames.count(Frame(PING, b"")) == 4

    async def test_a_tick_is_sent_every_30_seconds_and_counted_for_each_connection(
        self, harness: GatewayHarness
    ) -> None:
        early, _ = await harness.admitted(CLI.with_scopes())
        late = await self._later(harness, early)
        ticks: dict[RawSocket, list[Any]] = {early: [], late: []}
        for _ in range(3):
            await self._half_minute(harness, [early, late])
        for raw, seen in ticks.items():
            await raw.send(b"end", PING)
            while (frame := await raw.receive()) != (PONG, b"end"):
                if frame.opcode == TEXT:
                    seen.append(frame.json)
        assert [tick["seq"] for tick in ticks[early]] == [1, 2, 3, 4]
        assert [tick["seq"] for tick in ticks[late]] == [1, 2, 3]
        for tick in (*ticks[early], *ticks[late]):
            assert tick.keys() == {"type", "event", "payload", "seq"}
            assert (tick["type"], tick["event"]) == ("event", "tick")
            assert isinstance(tick["payload"]["ts"], int)
        stamps = [tick["payload"]["ts"] for tick in ticks[early]]
        assert {after - before for before, after in pairwise(stamps)} == {30_000}

    async def _later(self, harness: GatewayHarness, early: RawSocket) -> RawSocket:
        """Admit another client after the first one's first tick."""
        await self._half_minute(harness, [early])
        late, _ = await harness.admitted(CLI.with_scopes())
        return late

    async def _half_minute(self, harness: GatewayHarness, sockets: list[RawSocket]) -> None:
        for _ in range(2):
            await harness.pass_time(TICK_SECONDS / 2)
            for raw in sockets:
                await raw.send(b"", PONG)
            await until(
                lambda: not any(connection.pinged for connection in harness.open_connections),
                "pongs are taken",
            )

    async def test_a_client_without_pongs_is_dropped(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted()
        async with raw:
            await harness.pass_time(PING_SECONDS)
            assert not connection.transport.is_closing()
            await harness.pass_time(PING_SECONDS)
            frames = await raw.rest()
            assert [frame.opcode for frame in frames if frame.opcode != TEXT] == [PING]
        await harness.empty()

    async def test_any_frame_is_a_sign_of_life(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted()
        async with raw:
            for number in range(3):
                await harness.pass_time(PING_SECONDS)
                await raw.send(request(str(number)))
                await until(lambda: not connection.pinged, "the request is served")
            assert not connection.closing

    async def test_a_pending_client_gets_neither(self, harness: GatewayHarness) -> None:
        async with await harness.raw() as raw:
            await raw.challenge()
            await harness.pass_time(HANDSHAKE_DEADLINE_SECONDS - STEP)
            await sent_nothing_else(raw)


async def admitted_as(harness: GatewayHarness, profile: Profile) -> tuple[RawSocket, Connection]:
    """Admit a client; pages must send an Origin."""
    headers = [("Origin", harness.url)] if profile is CONTROL_UI else []
    raw = await harness.raw(headers=headers)
    answer = await raw.connect(DeviceKey.generate(), profile, Credentials(token=TOKEN))
    assert answer["ok"], answer
    return raw, harness.open_connections[-1]
