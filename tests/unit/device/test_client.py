"""The client on a real socket, against a gateway that follows a script."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from shared.device.client import DeviceClient
from shared.device.errors import (
    BrokenPeerError,
    DeviceClientError,
    DisconnectedError,
    NoAnswerError,
    UnreachableError,
)
from shared.device.handshake import (
    Admitted,
    Challenge,
    Close,
    Credentials,
    Refused,
    connect_request,
)
from shared.device.identity import DeviceKey
from shared.device.opening import Timeouts, new_session
from shared.device.profile import CLI, CLI_3
from tests.support.stub_gateway import NONCE, NOW_MS, Socket, hello, stub_gateway

KEY = DeviceKey.from_seed(b"\x11" * 32)
QUICK = Timeouts(open=1, challenge=0.1, outcome=0.1, call=0.1, close=0.1, send=1)
PAIRING = {
    "code": "NOT_PAIRED",
    "message": "pairing required: device is not approved yet",
    "details": {"code": "PAIRING_REQUIRED", "requestId": "r-1"},
}


async def refusing(socket: Socket) -> None:
    await socket.challenge()
    await socket.fail(await socket.hear(), PAIRING)
    await socket.close(1008, "pairing required (requestId: r-1)")


class TestConnect:
    async def test_admitted(self) -> None:
        seen: list[dict[str, Any]] = []

        async def script(socket: Socket) -> None:
            seen.append(await socket.admit(deviceToken="issued", issuedAtMs=5))
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI, token="t") as device:
            outcome = await device.connect()

            assert isinstance(outcome, Admitted)
            assert outcome.connection_id == "boot:7"
            assert outcome.replica == "boot"
            assert outcome.scopes == ("operator.read",)
            assert outcome.device_token == "issued"
            assert device.is_open
            assert device.credentials == Credentials(token="t", device_token="issued")
        params = seen[0]["params"]
        assert params["auth"] == {"token": "t"}
        assert params["device"]["id"] == KEY.device_id
        assert params["device"]["nonce"] == NONCE
        assert params["device"]["signedAt"] == NOW_MS
        assert not device.is_open

    async def test_credentials_come_back_with_the_device_token_alone(self) -> None:
        seen: list[dict[str, Any]] = []

        async def script(socket: Socket) -> None:
            seen.append(await socket.admit())
            await socket.hear_anything()

        async with (
            stub_gateway(script) as url,
            DeviceClient(url, KEY, CLI, device_token="d") as device,
        ):
            await device.connect()
            assert device.credentials == Credentials(device_token="d")
        assert seen[0]["params"]["auth"] == {"deviceToken": "d"}

    async def test_refused_with_the_frame_and_the_close_that_followed(self) -> None:
        async with stub_gateway(refusing) as url, DeviceClient(url, KEY, CLI) as device:
            outcome = await device.connect()

            assert outcome == Refused(PAIRING, Close(1008, "pairing required (requestId: r-1)"))
            assert await device.closed() == outcome.close
            assert not device.is_open

    async def test_refused_without_a_frame(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            await socket.hear()
            await socket.close(1008, "invalid request frame")

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            assert await device.connect() == Refused(None, Close(1008, "invalid request frame"))

    async def test_refused_before_the_challenge(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.close(1013, "gateway starting")

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            assert await device.connect() == Refused(None, Close(1013, "gateway starting"))

    async def test_refused_and_never_closed(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            await socket.fail(await socket.hear(), PAIRING)
            await socket.hear_anything()

        async with (
            stub_gateway(script) as url,
            DeviceClient(url, KEY, CLI, timeouts=QUICK) as device,
        ):
            assert await device.connect() == Refused(PAIRING, None)

    async def test_a_lost_connection_is_1006(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            await socket.hear()
            transport = socket.raw._writer.transport  # type: ignore[union-attr]
            assert transport is not None
            transport.abort()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            assert await device.connect() == Refused(None, Close(1006))

    async def test_protocol_3_without_auth(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            frame = await socket.hear()
            payload = hello(frame["params"])
            del payload["auth"]
            await socket.succeed(frame, payload)
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, None, CLI_3, token="t") as device:
            outcome = await device.connect()
            assert isinstance(outcome, Admitted)
            assert outcome.protocol == 3


class TestWhatCanGoWrong:
    async def test_nobody_listens(self, unused_tcp_port: int) -> None:
        async with DeviceClient(f"ws://127.0.0.1:{unused_tcp_port}", KEY, CLI) as device:
            with pytest.raises(UnreachableError):
                await device.connect()

    async def test_no_address(self) -> None:
        async with DeviceClient("no address", KEY, CLI) as device:
            with pytest.raises(UnreachableError):
                await device.connect()

    async def test_http_says_no(self) -> None:
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

    async def test_a_silent_listener(self) -> None:
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

    async def test_no_challenge(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.hear_anything()

        async with (
            stub_gateway(script) as url,
            DeviceClient(url, KEY, CLI, timeouts=QUICK) as device,
        ):
            with pytest.raises(NoAnswerError) as caught:
                await device.connect()
        assert (caught.value.awaited, caught.value.seconds) == ("challenge", 0.1)

    async def test_no_answer_to_connect(self) -> None:
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
    async def test_no_gateway(self, first: str) -> None:
        async def script(socket: Socket) -> None:
            await socket.say(first)
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            with pytest.raises(BrokenPeerError):
                await device.connect()

    async def test_no_gateway_after_all(self) -> None:
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

    async def test_sending_before_opening(self) -> None:
        async with DeviceClient("ws://127.0.0.1:1", KEY, CLI) as device:
            with pytest.raises(DeviceClientError):
                await device.send_text("x")


class TestCalls:
    async def test_answers_find_their_calls_in_any_order(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            first, second = await socket.hear(), await socket.hear()
            await socket.succeed(second, second["method"])
            await socket.fail(first, {"code": "FORBIDDEN", "message": "no"})
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            first, second = await asyncio.gather(device.call("a", {"x": 1}), device.call("b"))
        assert not first.ok
        assert first.error == {"code": "FORBIDDEN", "message": "no"}
        assert second.ok
        assert second.payload == "b"

    async def test_params_stand_in_the_frame_or_are_left_out(self) -> None:
        seen: list[dict[str, Any]] = []

        async def script(socket: Socket) -> None:
            await socket.admit()
            for _ in range(2):
                frame = await socket.hear()
                seen.append(frame)
                await socket.succeed(frame, None)
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            await device.call("a", {"x": 1})
            await device.call("b")
        assert seen[0]["params"] == {"x": 1}
        assert "params" not in seen[1]

    async def test_no_answer(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            await socket.hear()
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            with pytest.raises(NoAnswerError, match="answer to slow"):
                await device.call("slow", within=0.05)

    async def test_closed_while_waiting_and_after(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            await socket.hear()
            await socket.close(4001, "device removed")

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            for _ in range(2):
                with pytest.raises(DisconnectedError) as caught:
                    await device.call("a")
                assert caught.value.close == Close(4001, "device removed")

    async def test_a_late_answer_is_a_stray(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            frame = await socket.hear()
            await socket.hear()
            await socket.succeed(frame, "late")
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            with pytest.raises(NoAnswerError):
                await device.call("a", within=0.05)
            await device.send({"go": "on"})
            assert (await device.next_stray()).payload == "late"


class TestEvents:
    async def test_one_after_another_and_by_name(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            for number, name in enumerate(("a", "b", "c", "d"), 1):
                await socket.say({"type": "event", "event": name, "payload": {}, "seq": number})
            await socket.close(1012, "service restart")

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            assert (await device.next_event()).name == "a"
            assert (await device.next_event("c")).seq == 3
            assert [event.name async for event in device.events()] == ["d"]
            with pytest.raises(DisconnectedError):
                await device.next_event()

    async def test_none_comes(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            with pytest.raises(NoAnswerError, match="event tick"):
                await device.next_event("tick", within=0.05)
            with pytest.raises(NoAnswerError, match="no close"):
                await device.closed(within=0.05)


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

    async def test_pings_are_answered_unless_told_otherwise(self) -> None:
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
