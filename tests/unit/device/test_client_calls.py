"""Calls, answers and events over a real socket, against a scripted gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.device.client import DeviceClient
from shared.device.errors import DisconnectedError, NoAnswerError
from shared.device.handshake import Close
from shared.device.profile import CLI
from tests.support.stubs.gateway import Socket, stub_gateway
from tests.unit.device.scripts import KEY


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

    async def test_params_are_in_the_frame_or_omitted(self) -> None:
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

    async def test_a_call_without_an_answer_times_out(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            await socket.hear()
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            with pytest.raises(NoAnswerError, match="answer to slow"):
                await device.call("slow", within=0.05)

    async def test_calls_end_when_the_connection_is_closed(self) -> None:
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
    async def test_events_are_read_one_after_another_and_by_name(self) -> None:
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

    async def test_waiting_for_an_event_times_out(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            await socket.hear_anything()

        async with stub_gateway(script) as url, DeviceClient(url, KEY, CLI) as device:
            await device.connect()
            with pytest.raises(NoAnswerError, match="event tick"):
                await device.next_event("tick", within=0.05)
            with pytest.raises(NoAnswerError, match="no close"):
                await device.closed(within=0.05)
