"""The load tool's WebSocket reader: every outcome it counts was read here."""

from __future__ import annotations

import pytest

from tests.support.websocket.raw_socket import frame_bytes
from tests.support.websocket.server_frames import accepting, server_frame
from tools.load.client.wire import (
    FRAME_LIMIT_BYTES,
    PING,
    TEXT,
    BrokenFrame,
    Frame,
    read_close,
    read_frame,
    upgrade_problem,
    upgrade_request,
)


@pytest.mark.parametrize(
    ("head", "body", "problem"),
    [
        (accepting(upgrade_request("a", "/")), b"", ""),
        (accepting(b"Sec-WebSocket-Key: AA==\r\n"), b"", "wrong Sec-WebSocket-Accept"),
        (b"HTTP/1.1 503 x\r\n\r\n", b"Too many\nof them", "HTTP 503 Too many"),
        (b"HTTP/1.1 404 x\r\n\r\n", b"", "HTTP 404"),
        (b"SSH-2.0-x\r\n\r\n", b"", "no HTTP"),
    ],
)
def test_an_upgrade_succeeds_or_the_reason_is_named(head: bytes, body: bytes, problem: str) -> None:
    assert upgrade_problem(head, body) == problem


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_frame_is_read_after_another(length: int) -> None:
    first = server_frame(PING, b"hi")
    data = first + server_frame(TEXT, b"y" * length)
    assert read_frame(data, 0) == Frame(PING, b"hi", len(first))
    assert read_frame(data, len(first)) == Frame(TEXT, b"y" * length, len(data))


@pytest.mark.parametrize("length", [5, 200, 70_000])
def test_an_incomplete_frame_is_not_read(length: int) -> None:
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
    ids=["masked", "fragmented", "compressed", "huge"],
)
def test_a_frame_that_no_server_may_send_is_an_error(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        read_frame(data, 0)


def test_a_close_has_a_code_and_a_reason() -> None:
    assert read_close(b"\x0f\xa1device removed") == (4001, "device removed")
    assert read_close(b"") == (1005, "")
