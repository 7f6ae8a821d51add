"""Connections that never complete a WebSocket upgrade."""

from __future__ import annotations

import asyncio

from shared.device.handshake import Credentials
from shared.device.profile import CLI
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.support.websocket.raw_socket import RawSocket
from tools.support.waiting import until

HANDSHAKE_DEADLINE_SECONDS = 15.0
GOOD = Credentials(token=TOKEN)
STRANGERS = 1_000
BEGUN = b"GET / HTTP/1.1\r\nHost: gateway\r\nX-Slow: "


class TestBeforeTheUpgrade:
    async def test_a_thousand_silent_connections_do_not_block_others(
        self, harness: GatewayHarness
    ) -> None:
        silent = [await RawSocket.tcp(harness.port) for _ in range(STRANGERS // 2)]
        slow = [await RawSocket.tcp(harness.port) for _ in range(STRANGERS // 2)]
        await asyncio.gather(*(raw.send_bytes(BEGUN) for raw in slow))
        for source in ("127.0.0.1", "127.0.0.2"):
            raw = await harness.raw(source=source)
            assert (await raw.connect(None, CLI, GOOD))["ok"]
        assert len(harness.connections) == 2
        for raw in (*silent, *slow):
            raw.hang_up()

    async def test_a_request_that_does_not_end_is_cut_off(self, harness: GatewayHarness) -> None:
        harness.keepalive_seconds = 0.5
        async with await RawSocket.tcp(harness.port) as slow:
            await slow.send_bytes(BEGUN.replace(b"GET", b"POST"))
            assert await slow.read_to_end() == b""

    async def test_no_connection_outlasts_the_handshake_deadline(
        self, harness: GatewayHarness
    ) -> None:
        """Both silent clients and those that send their request byte by byte are cut off."""
        raws = [await RawSocket.tcp(harness.port) for _ in range(10)]
        await until(lambda: len(harness.limiter) == len(raws), "all have come")
        sent = BEGUN + b"x" * int(HANDSHAKE_DEADLINE_SECONDS)
        for at in range(int(HANDSHAKE_DEADLINE_SECONDS)):
            assert len(harness.limiter) == len(raws)
            for raw in raws[5:]:
                await raw.send_bytes(sent[at : at + 1])
            await harness.pass_time(1)
        for raw in raws:
            assert await raw.read_to_end() == b""
            raw.hang_up()
        assert len(harness.limiter) == 0

    async def test_a_connection_with_a_complete_request_is_no_longer_pending(
        self, harness: GatewayHarness
    ) -> None:
        waiting = await harness.raw()
        async with (
            await RawSocket.tcp(harness.port) as page,
            await RawSocket.tcp(harness.port) as gone,
        ):
            await until(lambda: len(harness.limiter) == 2, "two have not asked yet")
            await page.send_bytes(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n")
            await until(lambda: len(harness.limiter) == 1, "one has")
            gone.reset()
            await until(lambda: len(harness.limiter) == 0, "the other is gone")
            await harness.pass_time(HANDSHAKE_DEADLINE_SECONDS - 1)
            await page.send_bytes(
                b"GET /livez HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
            )
            assert (await page.read_to_end()).count(b"HTTP/1.1 200 ") == 2
        assert (await waiting.connect(None, CLI, GOOD))["ok"]

    async def test_an_incomplete_later_request_is_cut_off_too(
        self, harness: GatewayHarness
    ) -> None:
        harness.keepalive_seconds = 0.5
        async with await RawSocket.tcp(harness.port) as raw:
            await raw.send_bytes(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n" + BEGUN)
            output = await raw.read_to_end()
        assert output.startswith(b"HTTP/1.1 200 ")
        assert output.count(b"HTTP/1.1") == 1

    async def test_headers_are_not_kept_without_end(self, harness: GatewayHarness) -> None:
        async with await RawSocket.tcp(harness.port) as raw:
            await raw.send_bytes(BEGUN + b"x" * 100_000)
            assert b" 431 " in await raw.read_to_end()
