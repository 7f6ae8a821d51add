"""The interop reports quote messages that were read from a tapped connection."""

from __future__ import annotations

import pytest

from tests.support.websocket.raw_socket import frame_bytes
from tests.support.websocket.server_frames import server_frame
from tools.interop.frames import MessageReader

RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n\r\n"
LONG = b"x" * 70_000
CONTINUATION, TEXT, PING = 0x0, 0x1, 0x9


@pytest.mark.parametrize("payload", [b"", b"x" * 125, b"x" * 126, LONG])
def test_a_message_of_any_length_is_read(payload: bytes) -> None:
    assert MessageReader().feed(RESPONSE + server_frame(TEXT, payload)) == [payload]


def test_messages_are_read_from_any_pieces() -> None:
    data = RESPONSE + b"".join(server_frame(TEXT, payload) for payload in (b"one", LONG, b"three"))
    reader = MessageReader()
    pieces = [reader.feed(data[at : at + 7]) for at in range(0, len(data), 7)]
    assert [message for piece in pieces for message in piece] == [b"one", LONG, b"three"]


def test_a_clients_messages_are_unmasked() -> None:
    sent = REQUEST + frame_bytes(b"hello", key=b"\1\2\3\4") + frame_bytes(b"")
    assert MessageReader().feed(sent) == [b"hello", b""]


def test_fragments_are_joined_around_a_ping() -> None:
    data = (
        server_frame(TEXT, b"on", fin=False)
        + server_frame(PING, b"")
        + server_frame(CONTINUATION, b"e")
        + server_frame(TEXT, b"two")
    )
    assert MessageReader().feed(RESPONSE + data) == [b"one", b"two"]


def test_plain_http_has_no_messages() -> None:
    page = b"HTTP/1.1 200 OK\r\n\r\n" + server_frame(TEXT, b"page")
    for data in (page, b"GET /page HTTP/1.1\r\n\r\n"):
        reader = MessageReader()
        assert reader.feed(data) == []
        assert reader.feed(server_frame(TEXT, b"one")) == []
