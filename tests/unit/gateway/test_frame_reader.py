"""aiohttp's frame parser with callbacks: what an upgrade of aiohttp must not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WebSocketError, WSMsgType
from aiohttp.http import WebSocketReader

from services.gateway.frame_reader import frame_reader
from tests.support.raw_socket import CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, frame_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_BYTES = 1000
BINARY = 2


class Peer:
    """Feeds a reader, and keeps what it tells."""

    def __init__(self) -> None:
        self.messages: list[tuple[WSMsgType, Any]] = []
        self.broken: list[BaseException] = []
        self.react: Callable[[], None] = lambda: None
        self.feed = frame_reader(self._take, self.broken.append, message_limit_bytes=LIMIT_BYTES)

    def _take(self, message: Any) -> None:
        self.messages.append((message.type, message.data))
        self.react()


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_the_parser_is_the_compiled_one() -> None:
    """Its pure twin is ten times slower: an installation without it should not go unnoticed."""
    assert WebSocketReader.__module__ == "aiohttp._websocket.reader_c"


def test_each_message_is_told_at_once(peer: Peer) -> None:
    peer.feed(
        frame_bytes(b"a text") + frame_bytes(b"\x00", BINARY) + frame_bytes(b"p", PING)
        + frame_bytes(b"q", PONG) + frame_bytes(b"\x03\xe8bye", CLOSE)
    )  # fmt: skip
    assert peer.messages == [
        (WSMsgType.TEXT, b"a text"),
        (WSMsgType.BINARY, b"\x00"),
        (WSMsgType.PING, b"p"),
        (WSMsgType.PONG, b"q"),
        (WSMsgType.CLOSE, 1000),
    ]
    assert peer.broken == []


def test_a_message_may_come_byte_by_byte_and_in_fragments(peer: Peer) -> None:
    sent = frame_bytes(b"one ", TEXT, fin=False) + frame_bytes(b"text", CONTINUATION)
    for at in range(len(sent)):
        assert peer.messages == []
        peer.feed(sent[at : at + 1])
    assert peer.messages == [(WSMsgType.TEXT, b"one text")]


def test_text_is_not_checked(peer: Peer) -> None:
    peer.feed(frame_bytes(b"\xff"))
    assert peer.messages == [(WSMsgType.TEXT, b"\xff")]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame_bytes(b"x", rsv=RSV1), 1002),
        (frame_bytes(b"x", CONTINUATION), 1002),
        (frame_bytes(b"x" * (LIMIT_BYTES + 1)), 1009),
    ],
    ids=["compressed", "of nothing", "too big"],
)
def test_what_is_broken_is_told_once_with_its_code(peer: Peer, sent: bytes, code: int) -> None:
    peer.feed(sent)
    peer.feed(frame_bytes(b"more"))
    (error,) = peer.broken
    assert isinstance(error, WebSocketError)
    assert error.code == code
    assert peer.messages == []


def test_so_is_what_the_callback_raises(peer: Peer) -> None:
    def fail() -> None:
        raise LookupError

    peer.react = fail
    peer.feed(frame_bytes(b"one") + frame_bytes(b"two"))
    assert [type(error) for error in peer.broken] == [LookupError]
    assert len(peer.messages) == 1
