"""The first request of a connection, as a WebSocket upgrade or for aiohttp."""

from __future__ import annotations

import pytest

from shared.device.handshake import Credentials
from shared.device.profile import CLI
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.support.websocket.raw_socket import (
    PING,
    PONG,
    TEXT,
    RawSocket,
    frame_bytes,
    upgrade_bytes,
)

GOOD = Credentials(token=TOKEN)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n"


async def comes_in(raw: RawSocket) -> None:
    """Check that it can become a WebSocket connection."""
    await raw.upgraded()
    assert raw.status == 101
    assert (await raw.connect(None, CLI, GOOD))["ok"]


class TestUpgrade:
    async def test_may_come_byte_by_byte(self, harness: GatewayHarness) -> None:
        async with await RawSocket.tcp(harness.port) as raw:
            for byte in upgrade_bytes(harness.port):
                await raw.send_bytes(bytes([byte]))
            await comes_in(raw)

    async def test_frames_right_behind_it_are_read(self, harness: GatewayHarness) -> None:
        async with await RawSocket.tcp(harness.port) as raw:
            await raw.send_bytes(upgrade_bytes(harness.port) + frame_bytes(b"early", PING))
            await raw.upgraded()
            kinds = [(await raw.receive()).opcode for _ in range(2)]
            assert kinds == [TEXT, PONG]

    async def test_may_be_no_first_request_at_all(self, harness: GatewayHarness) -> None:
        """A proxy may reuse a connection for another client."""
        async with await RawSocket.tcp(harness.port) as raw:
            for _ in range(2):
                await raw.send_bytes(LIVEZ + b"\r\n")
                await raw.upgraded()
                assert raw.status == 200
                raw._buffer.clear()
            await raw.send_bytes(upgrade_bytes(harness.port))
            await comes_in(raw)
            await raw.send_close()
            await raw.rest()
            await harness.empty()

    async def test_one_that_cannot_be_met_gets_the_reason_and_asks_again(
        self, harness: GatewayHarness
    ) -> None:
        async with await RawSocket.tcp(harness.port) as raw:
            wrong = upgrade_bytes(harness.port).replace(b"Version: 13", b"Version: 12")
            await raw.send_bytes(wrong)
            await raw.upgraded()
            assert (raw.status, raw.body) == (
                426,
                b"Only version 13 of the WebSocket protocol is supported",
            )
            raw._buffer.clear()
            await raw.send_bytes(upgrade_bytes(harness.port))
            await comes_in(raw)


class TestOtherRequests:
    @pytest.mark.parametrize(
        "head",
        [LIVEZ, LIVEZ.replace(b"GET", b"HEAD"), LIVEZ + b"X-Speaks-Of: websocket\r\n"],
        ids=["GET", "HEAD", "only the word"],
    )
    async def test_requests_that_arrive_in_pieces_are_served(
        self, harness: GatewayHarness, head: bytes
    ) -> None:
        async with await RawSocket.tcp(harness.port) as raw:
            for piece in (head[:3], head[3:20], head[20:], b"Connection: close\r\n\r\n"):
                await raw.send_bytes(piece)
            assert (await raw.read_to_end()).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize(
        "sent", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"NONSENSE / HTTP/1.1\r\n\r\n"]
    )
    async def test_what_is_none_is_refused_at_once(
        self, harness: GatewayHarness, sent: bytes
    ) -> None:
        async with await RawSocket.tcp(harness.port) as raw:
            await raw.send_bytes(sent)
            assert (await raw.read_to_end()).startswith(b"HTTP/1.0 400 ")
