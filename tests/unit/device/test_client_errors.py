"""The client when a gateway is absent, silent, or not a gateway."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.device.client import DeviceClient
from shared.device.errors import BrokenPeerError, DeviceClientError, NoAnswerError, UnreachableError
from shared.device.opening import Timeouts
from shared.device.profile import CLI
from tests.support.stubs.gateway import Socket, stub_gateway
from tests.unit.device.scripts import KEY, QUICK


class TestFailureModes:
    async def test_a_closed_port_is_unreachable(self, unused_tcp_port: int) -> None:
        async with DeviceClient(f"ws://127.0.0.1:{unused_tcp_port}", KEY, CLI) as device:
            with pytest.raises(UnreachableError):
                await device.connect()

    async def test_an_invalid_address_is_unreachable(self) -> None:
        async with DeviceClient("no address", KEY, CLI) as device:
            with pytest.raises(UnreachableError):
                await device.connect()

    async def test_an_http_error_is_unreachable(self) -> None:
        app = web.Application()

        async def full(_request: web.Request) -> web.Response:
            return web.Response(status=503, text="Too many unauthenticated sockets")

        app.router.add_get("/", full)
        async with (
            TestServer(app) as server,
            DeviceClient(f"ws://127.0.0.1:{server.port}/", KEY, CLI) as device,
        ):
            with pytest.raises(UnreachableError) as caught:
                await device.connect()
        assert caught.value.status == 503

    async def test_a_server_that_closes_at_once_is_unreachable(self) -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            done.set()

        done = asyncio.Event()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            timeouts = Timeouts(open=0.05)
            async with DeviceClient(
                f"ws://127.0.0.1:{port}", KEY, CLI, timeouts=timeouts
            ) as device:
                with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
                    await device.connect()
            await done.wait()

    async def test_a_missing_challenge_times_out(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.hear_anything()

        async with (
            stub_gateway(script) as url,
            DeviceClient(url, KEY, CLI, timeouts=QUICK) as device,
        ):
            with pytest.raises(NoAnswerError) as caught:
                await device.connect()
        assert (caught.value.awaited, caught.value.seconds) == ("challenge", 0.1)

    async def test_an_unanswered_connect_times_out(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            await socket.hear()
            await socket.hear_anything()

        async with (
            stub_gateway(script) as url,
            DeviceClient(url, KEY, CLI, timeouts=QUICK) as device,
        ):
            with pytest.raises(NoAnswerError, match="answer to connect"):
                await device.connect()

    @pytest.mark.parametrize(
        "first", ["hello", '{"type":"event","event":"connect.challenge"}', "[]"]
    )
    async def test_another_first_message_is_not_a_gateway(self, first: str) -> None:
        async def script(socket: Socket) -> None:
            await socket.say(first)
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            with pytest.raises(BrokenPeerError):
                await device.connect()

    async def test_a_broken_message_after_hello_is_not_a_gateway(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            await socket.hear()
            await socket.say("what?")
            assert (await socket.hear_anything()).data == 1002

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            with pytest.raises(BrokenPeerError):
                await device.call("health")
            with pytest.raises(BrokenPeerError):
                await device.next_event()

    async def test_sending_before_opening_is_an_error(self) -> None:
        async with DeviceClient("ws://127.0.0.1:1", KEY, CLI) as device:
            with pytest.raises(DeviceClientError):
                await device.send_text("x")
