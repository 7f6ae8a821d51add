"""From bytes to messages: valid and invalid frames, independent of how the bytes are split."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp._websocket.helpers import websocket_mask
from hypothesis import example, given
from hypothesis import strategies as st

from services.gateway.websocket.frame_parser import BrokenFrame, FrameParser
from tests.support.websocket.broken_frames import BROKEN, FRAME_LIMIT_BYTES, Broken, closing
from tests.support.websocket.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    frame_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KEY: Final = b"\x37\xfa\x21\x3d"


class Peer:
    """Feeds a parser, and records its output."""

    def __init__(self, limit: int = FRAME_LIMIT_BYTES) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.broken: list[Exception] = []
        self.react: Callable[[], None] = lambda: None
        self.feed = FrameParser(self._take, self.broken.append, message_limit_bytes=limit).feed

    def _take(self, opcode: int, payload: bytes) -> None:
        assert type(payload) is bytes
        self.messages.append((opcode, payload))
        self.react()

    @property
    def codes(self) -> list[int]:
        """The close codes of protocol errors."""
        return [error.code for error in self.broken if isinstance(error, BrokenFrame)]


@pytest.fixture
def peer() -> Peer:
    return Peer()


def fed(sent: Iterable[bytes], limit: int = FRAME_LIMIT_BYTES) -> Peer:
    peer = Peer(limit)
    for piece in sent:
        peer.feed(piece)
    return peer


def test_unmasking_is_the_compiled_one() -> None:
    """The pure Python version is much slower: an installation that uses it must be noticed."""
    assert websocket_mask.__module__ == "aiohttp._websocket.mask"


class TestMessages:
    def test_messages_of_each_kind_are_reported_at_once(self, peer: Peer) -> None:
        peer.feed(
            frame_bytes(b"a text") + frame_bytes(b"\x00", BINARY) + frame_bytes(b"p", PING)
            + frame_bytes(b"q", PONG) + closing(b"\x03\xe8bye")
        )  # fmt: skip
        assert peer.messages == [
            (TEXT, b"a text"),
            (BINARY, b"\x00"),
            (PING, b"p"),
            (PONG, b"q"),
            (CLOSE, b"\x03\xe8bye"),
        ]
        assert peer.broken == []

    def test_the_rfcs_own_example_is_unmasked(self, peer: Peer) -> None:
        peer.feed(bytes.fromhex("818537fa213d7f9f4d5158"))
        assert peer.messages == [(TEXT, b"Hello")]

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 65_535, 65_536, 70_001])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_messages_with_every_form_of_length_are_read(
        self, peer: Peer, size: int, opcode: int
    ) -> None:
        payload = bytes(n % 251 for n in range(size))
        peer.feed(frame_bytes(payload, opcode, key=KEY) + frame_bytes(b"after", key=KEY))
        assert peer.messages == [(opcode, payload), (TEXT, b"after")]

    def test_fragmented_messages_are_delivered_whole(self, peer: Peer) -> None:
        peer.feed(
            frame_bytes(b"", fin=False)
            + frame_bytes(b"one ", CONTINUATION, fin=False, key=KEY)
            + frame_bytes(b"", CONTINUATION, fin=False)
            + frame_bytes(b"text", CONTINUATION)
            + frame_bytes(b"\x01", BINARY, fin=False)
            + frame_bytes(b"\x02", CONTINUATION)
            + frame_bytes(b"", fin=False)
            + frame_bytes(b"", CONTINUATION)
        )
        assert peer.messages == [(TEXT, b"one text"), (BINARY, b"\x01\x02"), (TEXT, b"")]

    def test_pings_between_fragments_are_delivered_first(self, peer: Peer) -> None:
        peer.feed(frame_bytes(b"{", fin=False) + frame_bytes(b"p", PING))
        assert peer.messages == [(PING, b"p")]
        peer.feed(frame_bytes(b"q", PONG) + frame_bytes(b"}", CONTINUATION))
        assert peer.messages == [(PING, b"p"), (PONG, b"q"), (TEXT, b"{}")]

    def test_text_is_not_checked(self, peer: Peer) -> None:
        peer.feed(frame_bytes(b"\xff"))
        assert peer.messages == [(TEXT, b"\xff")]

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            *(code.to_bytes(2, "big") for code in (1000, 1001, 1003, 1007, 1014, 3000, 4999)),
            "\u03e8".encode("utf-16-be") + "é🔑".encode(),
            b"\x03\xe8" + b"x" * 123,
        ],
    )
    def test_a_valid_close_is_reported_and_nothing_after_it(
        self, peer: Peer, payload: bytes
    ) -> None:
        peer.feed(closing(payload) + frame_bytes(b"more"))
        peer.feed(frame_bytes(b"x", key=None))
        assert peer.messages == [(CLOSE, payload)]
        assert peer.broken == []

    def test_messages_may_be_as_large_as_the_limit(self) -> None:
        peer = fed([frame_bytes(b"x" * 300), frame_bytes(b"x" * 300)], limit=300)
        assert [len(payload) for _, payload in peer.messages] == [300, 300]
        pieces = [frame_bytes(b"x" * 100, fin=False), frame_bytes(b"x" * 200, CONTINUATION)]
        peer = fed(pieces * 2, limit=300)
        assert [len(payload) for _, payload in peer.messages] == [300, 300]

    def test_control_frames_do_not_count_to_it(self) -> None:
        peer = fed(
            [
                frame_bytes(b"x" * 100, fin=False),
                frame_bytes(b"p" * 125, PING),
                frame_bytes(b"", CONTINUATION),
            ],
            limit=100,
        )
        assert [opcode for opcode, _ in peer.messages] == [PING, TEXT]


class TestBroken:
    @pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.name)
    def test_a_broken_frame_is_reported_once_and_ends_the_stream(self, row: Broken) -> None:
        peer = fed([row.sent, frame_bytes(b"more")])
        assert (peer.codes, len(peer.broken)) == ([row.code], 1)
        assert peer.messages == []

    @pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.name)
    def test_it_does_not_matter_in_which_pieces(self, row: Broken) -> None:
        peer = fed(row.sent[at : at + 1] for at in range(len(row.sent)))
        assert (peer.codes, len(peer.broken)) == ([row.code], 1)
        assert peer.messages == []

    @pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.name)
    def test_earlier_changes_were_sent(self, row: Broken) -> None:
        peer = fed([frame_bytes(b"before") + row.sent])
        assert peer.messages == [(TEXT, b"before")]
        assert peer.codes == [row.code]

    def test_a_missing_mask_is_detected_at_the_second_byte(self) -> None:
        assert fed([b"\x81", b"\x7f"]).codes == [1002]

    def test_an_error_of_the_callback_is_reported(self, peer: Peer) -> None:
        def fail() -> None:
            raise LookupError

        peer.react = fail
        peer.feed(frame_bytes(b"one") + frame_bytes(b"two"))
        assert [type(error) for error in peer.broken] == [LookupError]
        assert len(peer.messages) == 1


_valid = st.builds(
    frame_bytes,
    st.one_of(st.binary(max_size=200), st.sampled_from([bytes(126), bytes(300), bytes(66_000)])),
    st.sampled_from([TEXT, BINARY, CONTINUATION]),
    fin=st.booleans(),
    key=st.one_of(st.just(bytes(4)), st.binary(min_size=4, max_size=4)),
)
_control = st.builds(
    frame_bytes,
    st.binary(max_size=125),
    st.sampled_from([PING, PONG, CLOSE]),
    key=st.binary(min_size=4, max_size=4),
)
_streams = st.lists(
    st.one_of(_valid, _valid, _control, st.sampled_from([row.sent for row in BROKEN])), max_size=8
).map(b"".join) | st.binary(max_size=80)
_cuts = st.lists(st.integers(0, 70_000), max_size=12)


@given(stream=_streams, cuts=_cuts)
@example(
    stream=frame_bytes(b"x" * 300, key=KEY) + frame_bytes(b"y"), cuts=[1, 2, 3, 4, 7, 8, 9, 308]
)
def test_any_split_of_a_stream_gives_what_the_whole_gives(stream: bytes, cuts: list[int]) -> None:
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    whole = fed([stream], limit=100_000)
    pieces = (stream[start:stop] for start, stop in pairwise(bounds))
    split = fed(pieces, limit=100_000)
    assert split.messages == whole.messages
    assert split.codes == whole.codes
    assert len(split.broken) == len(whole.broken) == len(whole.codes) <= 1
