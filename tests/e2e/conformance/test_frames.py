"""Frames that RFC 6455 forbids are closed with the code that the RFC names, at a real gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.device.handshake import Credentials
from shared.device.profile import CLI, CLI_3
from tests.support.websocket.broken_frames import BROKEN, Broken
from tests.support.websocket.raw_socket import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Gone,
    RawSocket,
    frame_bytes,
)
from tools.support.actors import Operator, SimulatedDevice
from tools.support.waiting import until

if TYPE_CHECKING:
    from shared.device.identity import DeviceKey
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

LINE_MAX_CHARACTERS = 400
HEALTH = b'{"type":"req","id":"1","method":"health"}'


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway, for the whole module."""
    return start_stack(approvals=1, gateways=1)


@pytest.fixture
def gateway(stack: Stack) -> ServiceProcess:
    (gateway,) = stack.gateways
    return gateway


async def admitted(stack: Stack, profile: Profile = CLI, key: DeviceKey | None = None) -> RawSocket:
    """Return a socket admitted with the gateway token, once its log line was written."""
    (gateway,) = stack.gateways
    raw = await RawSocket.open(gateway.port)
    answer = await raw.connect(key, profile, Credentials(token=stack.gateway_token))
    assert answer["ok"], answer
    connection = answer["payload"]["server"]["connId"]
    await until(lambda: connection in gateway.log_text(), "its line is in the log")
    return raw


class Log:
    """The log lines of a process from now on."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._from = len(service.log_text())

    def lines(self) -> list[str]:
        """Return the lines so far."""
        return self._service.log_text()[self._from :].splitlines()

    async def is_one_short_line(self, code: int) -> None:
        """Wait for exactly one line, and check that it names the close."""
        await until(self.lines, "the line is written")
        answer = self._service.ready_answer()
        assert answer is not None
        (line,) = self.lines()
        assert len(line) <= LINE_MAX_CHARACTERS, line
        assert f'"code":{code}' in line


class TestBrokenFrames:
    @pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.name)
    async def test_broken_frames_close_a_connection_before_admission(
        self, gateway: ServiceProcess, row: Broken
    ) -> None:
        async with await RawSocket.open(gateway.port) as raw:
            await raw.challenge()
            log = Log(gateway)
            await raw.send_bytes(row.sent)
            assert await raw.closed() == (row.code, "")
            raw.hang_up()
            await log.is_one_short_line(row.code)

    @pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.name)
    async def test_broken_frames_close_a_connection_after_admission(
        self, stack: Stack, gateway: ServiceProcess, row: Broken
    ) -> None:
        async with await admitted(stack) as raw:
            log = Log(gateway)
            await raw.send_bytes(row.sent)
            assert await raw.closed() == (row.code, "")
            raw.hang_up()
            await log.is_one_short_line(row.code)

    @pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.name)
    async def test_come_after_what_was_sent_before_them_in_any_pieces(
        self, stack: Stack, row: Broken
    ) -> None:
        async with await admitted(stack, CLI_3) as raw:
            sent = frame_bytes(HEALTH, key=b"mask") + row.sent
            try:
                for at in range(0, min(len(sent), 300), 7):
                    await raw.send_bytes(sent[at : at + 7])
                await raw.send_bytes(sent[301:])
            except Gone:
                pass  # it may be closed already
            assert (await raw.receive_text())["id"] == "1"
            assert await raw.closed() == (row.code, "")


class TestValidFrames:
    async def test_frames_of_every_shape_are_served(self, stack: Stack) -> None:
        device = SimulatedDevice(stack)
        request_id = await device.request_pairing(stack.gateways[0])
        async with Operator(stack, stack.approvals[0]) as operator:
            (await operator.approve(request_id)).ok()
        async with await admitted(stack, key=device.key) as raw:
            long = HEALTH[:-1] + b',"params":{"x":"' + b"x" * 70_000 + b'"}}'
            medium = HEALTH[:-1] + b',"params":{"x":"' + b"x" * 200 + b'"}}'
            for text in (HEALTH, medium, long):
                for key in (bytes(4), b"\xff\x00\x13\x37"):
                    await raw.send_bytes(frame_bytes(text, key=key))
                    assert (await raw.receive_text())["ok"]

    async def test_fragments_may_be_empty_and_pings_between_them(self, stack: Stack) -> None:
        async with await admitted(stack) as raw:
            await raw.send(b"", fin=False)
            await raw.send(b"p", PING)
            await raw.send(HEALTH[:9], CONTINUATION, fin=False)
            await raw.send(b"", PONG)
            await raw.send(b"", CONTINUATION, fin=False)
            await raw.send(HEALTH[9:], CONTINUATION)
            assert await raw.receive() == (PONG, b"p")
            assert (await raw.receive_text())["ok"]

    async def test_text_that_is_no_utf8_is_no_json(self, stack: Stack) -> None:
        """Before admission it ends the handshake; afterwards the frame is ignored."""
        async with await RawSocket.open(stack.gateways[0].port) as raw:
            await raw.challenge()
            await raw.send(b"\xff")
            assert await raw.closed() == (1000, "")
        async with await admitted(stack) as raw:
            await raw.send(b'{"type":"req","id":"\xff","method":"health"}')
            await raw.send(b"\x00", BINARY)
            await raw.send(HEALTH, TEXT)
            assert (await raw.receive_text())["id"] == "1"

    async def test_a_close_is_answered_with_its_code(self, stack: Stack) -> None:
        for code in (1000, 1001, 3000, 4999):
            async with await admitted(stack) as raw:
                await raw.send_close(code)
                assert await raw.closed() == (code, "")
                assert await raw.rest() == []
