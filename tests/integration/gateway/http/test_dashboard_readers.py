"""Clients that read the dashboard slowly, or too much at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.gateway.dashboard.handler import Dashboard
from services.gateway.dashboard.sending import PIECE_BYTES
from shared.device.handshake import Credentials
from shared.device.profile import CLI
from shared.server.plain_limits import WAIT_SECONDS, PlainLimits
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.support.http.plain_http import ask
from tests.support.websocket.raw_socket import RawSocket
from tools.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

LARGE = bytes(range(256)) * 128 * 1024
GET = b"GET /large.bin HTTP/1.1\r\nHost: gateway\r\n\r\n"
SMALL = 4096
STALL_SECONDS = 20.0


@pytest.fixture
def ui(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_bytes(b"<html></html>")
    (tmp_path / "large.bin").write_bytes(LARGE)
    return tmp_path


def serving(ui: Path) -> GatewayHarness:
    """Return a gateway whose dashboard serves one reader at a time."""
    dashboard = Dashboard(ui, version="1")
    return GatewayHarness(dashboard=dashboard, plain_limits=PlainLimits(1, 1, STALL_SECONDS))


class TestSlowReaders:
    async def test_slow_readers_hold_no_more_than_two_pieces(self, ui: Path) -> None:
        async with serving(ui) as harness, await slow_reader(harness) as slow:
            transport = harness.protocols[-1].transport
            assert transport is not None
            assert 0 < transport.get_write_buffer_size() <= 2 * PIECE_BYTES
            assert harness.plain_requests.in_progress == 1
            slow.reset()
            await until(lambda: not harness.plain_requests.in_progress, "the request has ended")

    async def test_slow_readers_are_cut_off_once_they_read_nothing(self, ui: Path) -> None:
        async with serving(ui) as harness, await slow_reader(harness) as slow:
            await harness.pass_time(STALL_SECONDS - 1)
            assert harness.plain_requests.in_progress == 1
            await harness.pass_time(1)
            await until(lambda: not harness.plain_requests.in_progress, "it has ended")
            output = await slow.read_to_end()
            assert output.startswith(b"HTTP/1.1 200 ")
            assert len(output) < len(LARGE)
            assert (await ask(harness.port, "/large.bin")).body == LARGE

    async def test_slow_readers_delay_others_for_a_limited_time(self, ui: Path) -> None:
        async with serving(ui) as harness, await slow_reader(harness) as slow:
            asking = asyncio.create_task(ask(harness.port, "/"))
            await until(lambda: harness.plain_requests.waiting, "the other waits")
            await harness.pass_time(WAIT_SECONDS)
            other = await asking
            assert (other.status, other.headers["retry-after"]) == (503, "2")
            raw = await harness.raw()
            assert (await raw.connect(None, CLI, Credentials(token=TOKEN)))["ok"]
            slow.hang_up()

    async def test_a_socket_may_follow_on_the_same_connection(self, ui: Path) -> None:
        async with serving(ui) as harness, await RawSocket.tcp(harness.port) as raw:
            await raw.send_bytes(b"HEAD /large.bin HTTP/1.1\r\nHost: gateway\r\n\r\n")
            while not raw._buffer.endswith(b"\r\n\r\n"):
                await raw._more()
            assert f"Content-Length: {len(LARGE)}\r\n".encode() in raw._buffer
            raw._buffer.clear()
            await raw.upgrade(harness.port)
            assert raw.status == 101
            assert (await raw.connect(None, CLI, Credentials(token=TOKEN)))["ok"]


async def slow_reader(harness: GatewayHarness) -> RawSocket:
    """Return a client that requested a large file and reads as little as possible."""
    slow = await RawSocket.tcp(harness.port, receive_buffer=SMALL)
    await slow.send_bytes(GET)
    await until(
        lambda: harness.protocols and harness.protocols[-1].writing_paused, "it takes no more"
    )
    return slow
