"""How much a socket may send before and after hello-ok."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.support.websocket.raw_socket import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    frame_bytes,
)
from tools.support.waiting import until

if TYPE_CHECKING:
    from tests.support.websocket.raw_socket import RawSocket

PREAUTH_FRAME_LIMIT_BYTES = 65_536
DEVICELESS_FRAME_LIMIT_BYTES = 65_536
FRAME_LIMIT_BYTES = 1_048_576
"""Without an upstream."""
CLOSING_SECONDS = 1.0


async def padded_connect(raw: RawSocket, size: int) -> bytes:
    """Return a valid `connect` of exactly this many bytes, padded with an ignored field."""
    await raw.challenge()
    frame = raw.connect_frame(DeviceKey.generate(), credentials=Credentials(token=TOKEN))
    frame["params"]["padding"] = ""
    missing = size - len(json.dumps(frame))
    frame["params"]["padding"] = "x" * missing
    text = json.dumps(frame).encode()
    assert len(text) == size
    return text


def health(size: int) -> bytes:
    """Return a request of exactly this many bytes."""
    head, tail = b'{"type":"req","id":"7","method":"health","params":{"x":"', b'"}}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


class TestBeforeHello:
    async def test_65536_bytes_are_evaluated(self, harness: GatewayHarness) -> None:
        async with await harness.raw() as raw:
            await raw.send(await padded_connect(raw, PREAUTH_FRAME_LIMIT_BYTES))
            answer = await raw.receive_text()
            assert answer["payload"]["type"] == "hello-ok"

    async def test_one_byte_more_is_closed_with_1009_and_no_frame(
        self, harness: GatewayHarness
    ) -> None:
        async with await harness.raw() as raw:
            await raw.send(await padded_connect(raw, PREAUTH_FRAME_LIMIT_BYTES + 1))
            assert await raw.closed() == (1009, "")
        assert harness.approvals.asked == []

    async def test_fragments_count_together(self, harness: GatewayHarness) -> None:
        async with await harness.raw() as raw:
            text = await padded_connect(raw, PREAUTH_FRAME_LIMIT_BYTES)
            await raw.send(text[:30_000], fin=False)
            await raw.send(text[30_000:60_000], CONTINUATION, fin=False)
            await raw.send(text[60_000:], CONTINUATION)
            assert (await raw.receive_text())["ok"]
        async with await harness.raw() as raw:
            text = await padded_connect(raw, PREAUTH_FRAME_LIMIT_BYTES + 1)
            await raw.send(text[:60_000], fin=False)
            await raw.send(text[60_000:], CONTINUATION)
            assert await raw.closed() == (1009, "")

    async def test_fragments_without_end_are_cut_off(self, harness: GatewayHarness) -> None:
        async with await harness.raw() as raw:
            await raw.challenge()
            await raw.send(b"{", fin=False)
            for _ in range(20):
                await raw.send(b" " * 10_000, CONTINUATION, fin=False)
            assert await raw.closed() == (1009, "")
        assert harness.approvals.asked == []

    @pytest.mark.parametrize("opcode", [PING, PONG])
    async def test_a_flood_of_pings_is_cut_off(self, harness: GatewayHarness, opcode: int) -> None:
        async with await harness.raw() as raw:
            await raw.challenge()
            await raw.send_bytes(frame_bytes(b"x" * 125, opcode) * 2_000)
            assert await raw.closed() == (1009, "")

    async def test_a_binary_first_frame_is_refused(self, harness: GatewayHarness) -> None:
        async with await harness.raw() as raw:
            await raw.challenge()
            frame = raw.connect_frame(DeviceKey.generate(), credentials=Credentials(token=TOKEN))
            await raw.send(json.dumps(frame).encode(), BINARY)
            assert await raw.closed() == (1008, "invalid request frame")
        assert harness.approvals.asked == []


class TestAfterHello:
    async def test_hello_announces_the_limit(self, harness: GatewayHarness) -> None:
        for key, limit in (
            (DeviceKey.generate(), FRAME_LIMIT_BYTES),
            (None, DEVICELESS_FRAME_LIMIT_BYTES),
        ):
            async with await harness.raw() as raw:
                hello = await raw.connect(key, CLI, Credentials(token=TOKEN))
                assert hello["payload"]["policy"]["maxPayload"] == limit

    async def test_without_a_device_65536_bytes_are_served(self, harness: GatewayHarness) -> None:
        async with await harness.raw() as raw:
            await raw.connect(None, CLI, Credentials(token=TOKEN))
            await raw.send(health(DEVICELESS_FRAME_LIMIT_BYTES))
            assert (await raw.receive_text())["ok"]
            await raw.send_bytes(frame_bytes(b"", announce=DEVICELESS_FRAME_LIMIT_BYTES + 1))
            assert await raw.closed() == (1009, "")

    async def test_a_frame_begun_before_hello_is_limited_like_later_ones(
        self, harness: GatewayHarness
    ) -> None:
        """Only its length counts, whatever the client may send by the time that it is complete."""
        async with await harness.raw() as raw:
            await raw.challenge()
            connect = raw.connect_frame(None, credentials=Credentials(token=TOKEN))
            await raw.send_bytes(
                frame_bytes(json.dumps(connect).encode())
                + frame_bytes(b"x", announce=2 * PREAUTH_FRAME_LIMIT_BYTES + 1)
            )
            frames = [await raw.receive()]
            while frames[-1].opcode == TEXT:
                frames.append(await raw.receive())
            assert frames[-1].close.code == 1009

    async def test_1048576_bytes_are_served(self, harness: GatewayHarness) -> None:
        raw, _ = await harness.admitted()
        async with raw:
            await raw.send(health(FRAME_LIMIT_BYTES))
            answer = await raw.receive_text()
            assert answer["id"] == "7"
            assert answer["ok"]

    async def test_one_byte_more_is_closed_with_1009(self, harness: GatewayHarness) -> None:
        raw, _ = await harness.admitted()
        async with raw:
            await raw.send_bytes(frame_bytes(b"", announce=FRAME_LIMIT_BYTES + 1))
            assert await raw.closed() == (1009, "")

    async def test_fragments_count_together(self, harness: GatewayHarness) -> None:
        text = health(FRAME_LIMIT_BYTES)
        half = FRAME_LIMIT_BYTES // 2
        raw, _ = await harness.admitted()
        async with raw:
            await raw.send(text[:half], fin=False)
            await raw.send(text[half:], CONTINUATION)
            assert (await raw.receive_text())["ok"]
        raw, _ = await harness.admitted()
        async with raw:
            await raw.send(text[:half], fin=False)
            await raw.send_bytes(frame_bytes(b"", CONTINUATION, announce=half + 1))
            assert await raw.closed() == (1009, "")

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(frame_bytes(b"x", TEXT, rsv=RSV1), id="compressed"),
            pytest.param(frame_bytes(b"x", TEXT, rsv=0x20), id="reserved bit"),
            pytest.param(frame_bytes(b"x", 3), id="unknown opcode"),
            pytest.param(frame_bytes(b"x", PING, fin=False), id="fragmented ping"),
            pytest.param(frame_bytes(b"x", CONTINUATION), id="continuation of nothing"),
            pytest.param(frame_bytes(b"x" * 126, PING), id="long ping"),
        ],
    )
    async def test_a_broken_frame_is_closed_with_1002(
        self, harness: GatewayHarness, broken: bytes
    ) -> None:
        raw, connection = await harness.admitted()
        async with raw:
            await raw.send_bytes(broken)
            assert await raw.closed() == (1002, "")
            await harness.pass_time(CLOSING_SECONDS + 0.25)
            assert await raw.rest() == []
        await harness.empty()
        assert connection.closed_with == (1002, "")

    async def test_the_close_reaches_a_peer_that_is_still_sending(
        self, harness: GatewayHarness
    ) -> None:
        raw, connection = await harness.admitted()
        async with raw:
            await raw.send_bytes(frame_bytes(b"", announce=FRAME_LIMIT_BYTES + 1))
            await until(lambda: connection.closing, "it is too big")
            for _ in range(10):
                await raw.send_bytes(b"x" * 100_000)
            assert await raw.closed() == (1009, "")
            assert not connection.transport.is_closing()

    async def test_compression_is_not_agreed_on(self, harness: GatewayHarness) -> None:
        offered = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
        async with await harness.raw(headers=offered) as raw:
            assert raw.status == 101
            assert "sec-websocket-extensions" not in raw.headers
