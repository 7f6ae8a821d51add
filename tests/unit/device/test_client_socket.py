"""How the client handles its socket: raw frames, headers, pings, closing, and no leaks."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiohttp import WSMsgType

from shared.device.client import DeviceClient
from shared.device.errors import DisconnectedError
from shared.device.handshake import Admitted, Challenge, Close, connect_request
from shared.device.opening import new_session
from shared.device.profile import CLI
from tests.support.stubs.gateway import Socket, stub_gateway
from tests.unit.device.scripts import KEY, refusing


class TestRawFrames:
    async def test_anything_can_be_sent(self) -> None:
        heard: list[Any] = []

        async def script(socket: Socket) -> None:
            await socket.challenge()
            for _ in range(3):
                message = await socket.hear_anything()
                heard.append((message.type, message.data))

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.challenge()
            await device.send_text("not json")
            await device.send_bytes(b"\x00\xff")
            await device.send({"type": "event"})
            await device.closed(within=1)
        assert heard == [
            (WSMsgType.TEXT, "not json"),
            (WSMsgType.BINARY, b"\x00\xff"),
            (WSMsgType.TEXT, '{"type":"event"}'),
        ]

    async def test_text_that_is_no_utf8(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.challenge()
            await device.send_bytes(b"\xff", binary=False)
            assert (await device.closed(within=1)).code == 1007

    async def test_a_connect_altered_after_signing(self) -> None:
        seen: list[dict[str, Any]] = []

        async def script(socket: Socket) -> None:
            seen.append(await socket.admit())
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            challenge = await device.challenge()
            assert isinstance(challenge, Challenge)
            frame = connect_request(challenge, KEY, CLI)
            frame["params"]["role"] = "node"
            await device.handshake(frame)
        assert seen[0]["params"]["role"] == "node"


class TestTheSocket:
    async def test_headers_and_origin_are_sent_and_cookies_are_not(self) -> None:
        seen: list[Any] = []

        async def script(socket: Socket) -> None:
            seen.append(socket.headers)
            await socket.admit()
            await socket.hear_anything()

        async with stub_gateway(script) as url, new_session() as session:
            for _ in range(2):
                async with DeviceClient(
                    url,
                    KEY,
                    CLI,
                    headers={"X-Forwarded-For": "10.0.0.1"},
                    origin="https://ok.example",
                    session=session,
                ) as device:
                    await device.connect()
            assert not session.closed
        for headers in seen:
            assert headers["X-Forwarded-For"] == "10.0.0.1"
            assert headers["Origin"] == "https://ok.example"
            assert "Cookie" not in headers
            assert "Sec-WebSocket-Extensions" not in headers

    async def test_the_environment_names_no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")

        async def script(socket: Socket) -> None:
            await socket.admit()
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            assert isinstance(await device.connect(), Admitted)

    async def test_closing_says_so_to_the_gateway(self) -> None:
        codes: list[Any] = []

        async def script(socket: Socket) -> None:
            await socket.admit()
            message = await socket.hear_anything()
            codes.append((message.data, message.extra))

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            await device.close(4000, "tick timeout")
            await device.close()
            assert await device.closed() == Close(4000, "tick timeout")
        assert codes == [(4000, "tick timeout")]

    async def test_one_client_is_one_connection(self) -> None:
        async with stub_gateway(refusing) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            with pytest.raises(DisconnectedError):
                await device.open()

    async def test_pings_are_answered_by_default(self) -> None:
        pongs: list[bool] = []

        async def script(socket: Socket) -> None:
            await socket.raw.ping(b"x")
            try:
                message = await asyncio.wait_for(socket.raw._reader.read(), 0.2)  # type: ignore[union-attr]
                pongs.append(message.type is WSMsgType.PONG)
            except TimeoutError:
                pongs.append(False)
            await socket.close(1000)

        async with stub_gateway(script) as url:
            for answer in (True, False):
                async with DeviceClient(url, KEY, CLI, answer_pings=answer) as device:
                    await device.open()
                    await device.closed(within=2)
        assert pongs == [True, False]

    async def test_nothing_is_left_behind(self) -> None:
        async with stub_gateway(refusing) as url:
            for _ in range(3):
                async with DeviceClient(url, KEY, CLI) as device:
                    await device.connect()
        gc.collect()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if task.get_name() == "device-client-reader"]
