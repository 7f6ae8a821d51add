from __future__ import annotations

import base64
import hashlib

import pytest

from tests.support.raw_socket import frame_bytes
from tools.load.wire import (
    CLOSE,
    FRAME_LIMIT_BYTES,
    PING,
    TEXT,
    BrokenFrame,
    Frame,
    close_frame,
    control_frame,
    read_close,
    read_frame,
    text_frame,
    upgrade_problem,
    upgrade_request,
)


def accepting(request: bytes) -> bytes:
    """Return a server's answer to an upgrade, from the key in the request."""
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    digest = hashlib.sha1(
        key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False
    ).digest()
    return b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %s\r\n\r\n" % (
        base64.b64encode(digest)
    )


class TestUpgrade:
    def test_asks_for_a_websocket(self) -> None:
        request = upgrade_request("gateway.example", "/x?y=1")
        assert request.startswith(b"GET /x?y=1 HTTP/1.1\r\nHost: gateway.example\r\n")
        assert request.endswith(b"\r\n\r\n")

    def test_the_right_answer_is_one(self) -> None:
        assert upgrade_problem(accepting(upgrade_request("a", "/"))) == ""

    @pytest.mark.parametrize(
        ("head", "body", "problem"),
        [
            (b"HTTP/1.1 503 x\r\n\r\n", b"Too many\nof them", "HTTP 503 Too many"),
            (b"HTTP/1.1 404 x\r\n\r\n", b"", "HTTP 404"),
            (b"SSH-2.0-x\r\n\r\n", b"", "no HTTP"),
            (accepting(b"Sec-WebSocket-Key: AA==\r\n"), b"", "wrong Sec-WebSocket-Accept"),
        ],
    )
    def test_others_are_named(self, head: bytes, body: bytes, problem: str) -> None:
        assert upgrade_problem(head, body) == problem


class TestSending:
    @pytest.mark.parametrize("length", [0, 125, 126, 65_535])
    def test_text_is_masked_and_whole(self, length: int) -> None:
        payload = b"x" * length
        frame = text_frame(payload)
        assert frame[0] == 0x80 | TEXT
        assert frame[1] & 0x80
        short = length <= 125
        assert (frame[1] & 0x7F) == (length if short else 126)
        if not short:
            assert int.from_bytes(frame[2:4], "big") == length
        start = 2 if short else 4
        mask, masked = frame[start : start + 4], frame[start + 4 :]
        assert bytes(byte ^ mask[n % 4] for n, byte in enumerate(masked)) == payload

    def test_a_close_carries_its_code(self) -> None:
        assert close_frame(1000) == control_frame(CLOSE, b"\x03\xe8")


class TestReading:
    @pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
    def test_a_frame_after_others(self, length: int) -> None:
        first = server_frame(PING, b"hi")
        data = first + server_frame(TEXT, b"y" * length)
        assert read_frame(data, 0) == Frame(PING, b"hi", len(first))
        assert read_frame(data, len(first)) == Frame(TEXT, b"y" * length, len(data))

    @pytest.mark.parametrize("length", [5, 200, 70_000])
    def test_no_part_of_a_frame_is_one(self, length: int) -> None:
        data = server_frame(TEXT, b"z" * length)
        for end in (*range(12), len(data) - 1):
            assert read_frame(data[: min(end, len(data) - 1)], 0) is None

    @pytest.mark.parametrize(
        "data",
        [
            frame_bytes(b"masked"),
            b"\x01\x00",
            b"\xc1\x00",
            b"\x81\x7f" + (FRAME_LIMIT_BYTES + 1).to_bytes(8, "big"),
        ],
        ids=["masked", "in parts", "compressed", "huge"],
    )
    def test_what_no_server_may_send(self, data: bytes) -> None:
        with pytest.raises(BrokenFrame):
            read_frame(data, 0)

    def test_closes(self) -> None:
        assert read_close(b"\x0f\xa1device removed") == (4001, "device removed")
        assert read_close(b"") == (1005, "")


def server_frame(opcode: int, payload: bytes) -> bytes:
    """Return an unmasked frame as servers send it."""
    length = len(payload)
    if length < 126:
        head = bytes([0x80 | opcode, length])
    elif length < 65_536:
        head = bytes([0x80 | opcode, 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 127]) + length.to_bytes(8, "big")
    return head + payload
