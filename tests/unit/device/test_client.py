"""The client is admitted or refused on a real socket, against a scripted gateway."""

from __future__ import annotations

from typing import Any

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Close, Credentials, Refused
from shared.device.profile import CLI, CLI_3
from tests.support.stubs.gateway import NONCE, NOW_MS, Socket, hello, stub_gateway
from tests.unit.device.scripts import KEY, PAIRING, QUICK, refusing


class TestConnect:
    async def test_connect_returns_an_admission(self) -> None:
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

    async def test_a_close_without_an_error_frame_is_a_refusal(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            await socket.hear()
            await socket.close(1008, "invalid request frame")

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            assert await device.connect() == Refused(None, Close(1008, "invalid request frame"))

    async def test_a_close_before_the_challenge_is_a_refusal(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.close(1013, "gateway starting")

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            assert await device.connect() == Refused(None, Close(1013, "gateway starting"))

    async def test_a_refusal_without_a_close_is_returned(self) -> None:
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

    async def test_a_protocol_3_hello_without_auth_is_an_admission(self) -> None:
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
