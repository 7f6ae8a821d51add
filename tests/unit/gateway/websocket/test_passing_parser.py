"""Text messages that are passed on as they came, beside all that still has to be parsed."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.gateway.websocket.frame_parser import BrokenFrame, FrameParser
from services.gateway.websocket.passing_parser import PassingParser
from tests.support.websocket.broken_frames import BROKEN
from tests.support.websocket.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    frame_bytes,
)

KEY: Final = b"\x37\xfa\x21\x3d"
LIMIT: Final = 100_000
READ: Final = b"read me"
"""What a text contains that is not to be passed on."""


class Relayed:
    """What comes out of a passing parser, in order: frames as they came, or messages."""

    def __init__(self, *, from_client: bool, limit: int = LIMIT) -> None:
        self.out: list[bytes | tuple[int, bytes]] = []
        self.count = self.payload_bytes = 0
        self.writes: list[bytes] = []
        self.broken: list[Exception] = []
        self.parser = PassingParser(
            lambda opcode, payload: self.out.append((opcode, payload)),
            self.broken.append,
            message_limit_bytes=limit,
            from_client=from_client,
        )
        self.parser.pass_to(self)

    def is_to_be_read(self, payload: bytes | bytearray, start: int) -> bool:
        return payload.startswith(READ, start)

    def on_frames(self, frames: bytes | bytearray, count: int, payload_bytes: int) -> None:
        self.writes.append(bytes(frames))
        split = wire_frames(bytes(frames))
        assert len(split) == count
        self.out += split
        self.count += count
        self.payload_bytes += payload_bytes


def wire_frames(data: bytes) -> list[bytes]:
    """Split bytes into whole frames, as simply as possible."""
    found = []
    while data:
        length, at = data[1] & 127, 2
        if length > 125:
            at = 4 if length == 126 else 10
            length = int.from_bytes(data[2:at], "big")
        end = at + (4 if data[1] & 128 else 0) + length
        assert len(data) >= end, "a frame was passed on in part"
        found.append(data[:end])
        data = data[end:]
    return found


def unmasked(frame: bytes) -> bytes:
    """Return the payload of a client's frame, unmasked byte by byte."""
    at = {126: 4, 127: 10}.get(frame[1] & 127, 2)
    key, payload = frame[at : at + 4], frame[at + 4 :]
    return bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


def relayed(pieces: list[bytes], *, from_client: bool = True, limit: int = LIMIT) -> Relayed:
    found = Relayed(from_client=from_client, limit=limit)
    for piece in pieces:
        found.parser.feed(piece)
    return found


class TestFrames:
    @pytest.mark.parametrize("key", [KEY, None], ids=["client", "server"])
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, LIMIT])
    def test_frames_of_every_size_pass_unchanged(self, size: int, key: bytes | None) -> None:
        frame = frame_bytes(bytes(n % 251 for n in range(size)), key=key)
        found = relayed([frame], from_client=key is not None)
        assert (found.out, found.count, found.payload_bytes) == ([frame], 1, size)

    def test_frames_of_one_read_pass_in_one_piece(self) -> None:
        frames = frame_bytes(b"one", key=KEY) + frame_bytes(b"x" * 500, key=b"abcd")
        assert relayed([frames]).writes == [frames]

    @pytest.mark.parametrize("key", [KEY, None], ids=["client", "server"])
    @pytest.mark.parametrize("size", [20, 200, 70_000])
    def test_frames_that_have_to_be_read_do_not_pass(self, size: int, key: bytes | None) -> None:
        text = READ + b"x" * size
        before, after = frame_bytes(b"before", key=key), frame_bytes(b"after", key=key)
        stream = before + frame_bytes(text, key=key) + after
        for pieces in ([stream], [stream[:100], stream[100:]], [stream[:7], stream[7:]]):
            found = relayed(pieces, from_client=key is not None)
            assert found.out == [before, (TEXT, text), after]

    def test_frames_before_passing_begins_are_parsed(self) -> None:
        found = Relayed(from_client=True)

        def take(opcode: int, payload: bytes) -> None:
            found.out.append((opcode, payload))
            parser.pass_to(found)

        parser = PassingParser(take, found.broken.append, message_limit_bytes=LIMIT)
        first, second = frame_bytes(b"first", key=KEY), frame_bytes(b"second", key=KEY)
        parser.feed(first + second)
        assert found.out == [(TEXT, b"first"), second]

    def test_one_byte_over_the_limit_is_too_big_and_nothing_of_it_passes(self) -> None:
        found = relayed([frame_bytes(b"x" * 301, key=KEY)[:20]], limit=300)
        assert found.out == []
        assert [error.code for error in found.broken if isinstance(error, BrokenFrame)] == [1009]

    def test_an_incomplete_frame_says_what_is_missing(self) -> None:
        frame = frame_bytes(b"x" * 70_000, key=KEY)
        found = relayed([frame[:100]])
        assert found.parser.missing_bytes == len(frame) - 100
        found.parser.feed(frame[100:])
        assert found.parser.missing_bytes == 0


def a_message(draw: st.DrawFn, *, masked: bool) -> tuple[bytes, list[bytes | tuple[int, bytes]]]:
    """Return the bytes of one message, and what has to come out."""
    key = draw(st.binary(min_size=4, max_size=4)) if masked else None
    kind = draw(st.sampled_from([TEXT, TEXT, TEXT, BINARY, PING, PONG]))
    payload = draw(
        st.one_of(
            st.binary(max_size=125),
            st.sampled_from([READ, READ + b"x" * 200, bytes(126), bytes(300), bytes(66_000)]),
        )
    )
    if kind in {PING, PONG}:
        return frame_bytes(payload[:125], kind, key=key), [(kind, payload[:125])]
    if draw(st.booleans()):
        whole = frame_bytes(payload, kind, key=key)
        passes = kind == TEXT and not payload.startswith(READ)
        return whole, [whole if passes else (kind, payload)]
    cut = draw(st.integers(0, len(payload)))
    ping = draw(st.sampled_from([b"", frame_bytes(b"p", PING, key=key)]))
    sent = (
        frame_bytes(payload[:cut], kind, fin=False, key=key)
        + ping
        + frame_bytes(payload[cut:], CONTINUATION, key=key)
    )
    return sent, [*([(PING, b"p")] if ping else []), (kind, payload)]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bool, bytes, list[bytes | tuple[int, bytes]]]:
    """Draw a direction, a stream of whole messages, and what has to come out of the parser."""
    masked = draw(st.booleans())
    messages = [a_message(draw, masked=masked) for _ in range(draw(st.integers(0, 6)))]
    stream = b"".join(sent for sent, _ in messages)
    return masked, stream, [item for _, expected in messages for item in expected]


_cuts = st.lists(st.integers(0, 70_000) | st.integers(0, 600), max_size=12)


def _cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[start:stop] for start, stop in pairwise(bounds)]


@given(conversation=conversations(), cuts=_cuts)
def test_each_message_comes_out_once_in_order_however_it_is_split(
    conversation: tuple[bool, bytes, list[bytes | tuple[int, bytes]]], cuts: list[int]
) -> None:
    masked, stream, expected = conversation
    found = relayed(_cut(stream, cuts), from_client=masked)
    assert found.out == expected
    assert found.broken == []


_anything = st.lists(
    st.builds(
        frame_bytes,
        st.one_of(st.binary(max_size=200), st.sampled_from([READ, bytes(300), bytes(66_000)])),
        st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, PING, CLOSE]),
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 0x40]),
        key=st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4)),
    )
    | st.sampled_from([row.sent for row in BROKEN]),
    max_size=8,
).map(b"".join) | st.binary(max_size=80)


@given(stream=_anything, cuts=_cuts)
@example(stream=frame_bytes(b"x" * 300, key=KEY) + b"\x81\x05plain", cuts=[1, 2, 3, 4, 8, 9, 308])
def test_it_accepts_and_rejects_what_a_plain_parser_does(stream: bytes, cuts: list[int]) -> None:
    messages: list[tuple[int, bytes]] = []
    errors: list[Exception] = []
    plain = FrameParser(
        lambda opcode, payload: messages.append((opcode, payload)),
        errors.append,
        message_limit_bytes=LIMIT,
    )
    plain.feed(stream)
    found = relayed(_cut(stream, cuts))
    assert [
        (TEXT, unmasked(item)) if isinstance(item, bytes) else item for item in found.out
    ] == messages
    assert [str(error) for error in found.broken] == [str(error) for error in errors]
