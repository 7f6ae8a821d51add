from __future__ import annotations

import pytest

from tools.interop.frames import MessageReader

RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n\r\n"
LONG = b"x" * 70_000


def text(payload: bytes, *, first: int = 0x81) -> bytes:
    """Return a frame as a gateway sends it."""
    size = len(payload)
    if size < 126:
        return bytes([first, size]) + payload
    if size < 1 << 16:
        return bytes([first, 126]) + size.to_bytes(2, "big") + payload
    return bytes([first, 127]) + size.to_bytes(8, "big") + payload


def masked(payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """Return a short frame as a client sends it."""
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([0x81, 0x80 | len(payload)]) + mask + body


@pytest.mark.parametrize("payload", [b"", b"{}", b"x" * 125, b"x" * 126, LONG])
def test_a_message_is_read(payload: bytes) -> None:
    assert MessageReader().feed(RESPONSE + text(payload)) == [payload]


def test_it_may_come_in_any_pieces() -> None:
    data = RESPONSE + text(b"one") + text(LONG) + text(b"three")
    reader = MessageReader()
    pieces = [reader.feed(data[at : at + 7]) for at in range(0, len(data), 7)]
    assert [message for piece in pieces for message in piece] == [b"one", LONG, b"three"]


def test_a_client_s_is_unmasked() -> None:
    assert MessageReader().feed(REQUEST + masked(b"hello") + masked(b"")) == [b"hello", b""]


def test_fragments_are_put_together_around_a_ping() -> None:
    data = text(b"on", first=0x01) + text(b"", first=0x89) + text(b"e", first=0x80) + text(b"two")
    assert MessageReader().feed(RESPONSE + data) == [b"one", b"two"]


def test_what_is_no_websocket_has_no_messages() -> None:
    for data in (b"HTTP/1.1 200 OK\r\n\r\n" + text(b"page"), b"GET /page HTTP/1.1\r\n\r\n"):
        reader = MessageReader()
        assert reader.feed(data) == []
        assert reader.feed(text(b"one")) == []
