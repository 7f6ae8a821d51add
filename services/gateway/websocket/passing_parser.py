"""A FrameParser that passes whole text messages on as the bytes that came. No I/O.

A relay rarely changes a message, so it need not take a frame apart and build it again: a client's
mask is valid for the next server as well. Only fragmented messages, control frames and messages
that have to be read are handled by the FrameParser.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp._websocket.helpers import websocket_mask

from services.gateway.websocket.frame_parser import TEXT, FrameParser

if TYPE_CHECKING:
    from collections.abc import Callable

    Bytes = bytes | bytearray

_WHOLE_TEXT: Final = 0x81
_MASKED: Final = 0x80
_HEADER_BYTES: Final = 2
_KEY_BYTES: Final = 4
_SHORT_MAX_BYTES: Final = 125
_MEDIUM: Final = 126
_MEDIUM_BYTES: Final = 2
_LONG: Final = 127
_LONG_BYTES: Final = 8
_long_length: Final = Struct("!Q").unpack_from
_MEDIUM_MAX_BYTES: Final = 0xFFFF
_BEYOND_LIMITS: Final = 2**64


class Passer(Protocol):
    """The user of the messages that are passed on."""

    def is_to_be_read(self, payload: Bytes, start: int) -> bool:
        """Return whether the text from `start` on has to go to `on_message` instead."""
        ...

    def on_frames(self, frames: Bytes, count: int, payload_bytes: int) -> None:
        """Pass on whole text frames, as they came. The callee owns the buffer from now on."""
        ...


class PassingParser(FrameParser):
    """Parses like a FrameParser until `pass_to` is called; then it passes text frames on."""

    __slots__ = ("_body", "_partial", "_partial_missing", "_passer")

    def __init__(
        self,
        on_message: Callable[[int, bytes], None],
        on_broken: Callable[[Exception], None],
        *,
        message_limit_bytes: int,
        larger_limit: Callable[[], int] | None = None,
        from_client: bool = True,
    ) -> None:
        super().__init__(
            on_message,
            on_broken,
            message_limit_bytes=message_limit_bytes,
            larger_limit=larger_limit,
            from_client=from_client,
        )
        self._passer: Passer | None = None
        self._partial: bytearray | None = None
        """The received part of an incomplete text frame with its header; the rest is missing."""
        self._partial_missing = 0
        self._body = 0
        """Where the payload begins in `_partial`."""

    def pass_to(self, passer: Passer) -> None:
        """Pass on every text message that comes from now on; `on_message` gets the others."""
        self._passer = passer

    @property
    def missing_bytes(self) -> int:
        """How many bytes of the current frame have not arrived."""
        return self._partial_missing if self._partial is not None else super().missing_bytes

    @property
    def incomplete(self) -> bytearray | None:
        """The buffer of a message that is incomplete, or None."""
        if self._partial is not None:
            return self._partial
        return self._payload if self._message is None else self._message

    @property
    def held_bytes(self) -> int:
        """How many bytes of incomplete messages and frames are held."""
        return super().held_bytes + len(self._partial or b"")

    def feed(self, data: bytes) -> None:
        """Parse a chunk of bytes; most chunks are whole text frames, with nothing before them."""
        if self._ended:
            return
        try:
            start = 0
            if self._partial is not None:
                start = self._extend(self._partial, data)
            elif self._payload is not None:
                start = self._go_on(self._payload, data)
            elif self._header:
                data = self._header + data
                self._header = b""
            end = len(data)
            while start < end and not self._ended:
                if self._passer is not None and self._message is None:
                    start = self._pass(self._passer, data, start, end)
                    if start == end:
                        return
                start = self._take(data, start, end)
        except Exception as error:  # noqa: BLE001 (any error ends this connection only)
            self._break(error)

    def _break(self, error: Exception) -> None:
        self._partial = None
        super()._break(error)

    def _pass(self, passer: Passer, data: bytes, start: int, end: int) -> int:
        """Pass on the text frames at `start`; return where the first other frame starts, or `end`.

        A header that is incomplete or invalid is left to `_take`.
        """
        from_client = self._from_client
        masked, key_bytes = (_MASKED, _KEY_BYTES) if from_client else (0, 0)
        at, count, payload_bytes = start, 0, 0
        while end - at >= _HEADER_BYTES and data[at] == _WHOLE_TEXT:
            length = data[at + 1] ^ masked
            body = at + _HEADER_BYTES + key_bytes
            if length == _MEDIUM:
                body += _MEDIUM_BYTES
                length = data[at + 2] << 8 | data[at + 3] if body <= end else 0
                if length <= _SHORT_MAX_BYTES:
                    break
            elif length > _MEDIUM:
                body += _LONG_BYTES
                length = _long(length, data, at, end)
            if body > end or (length > self._left_bytes and not self._fits(length)):
                break
            stop = body + length
            if stop > end:
                self._partial, self._body = bytearray(data[at:]), body - at
                self._partial_missing = stop - end
                break
            text: Bytes = data
            text_start = body
            if from_client:
                text, text_start = bytearray(data[at:stop]), body - at
                websocket_mask(_key_from_start(data, at, body), text)
            if passer.is_to_be_read(text, text_start):
                break
            at = stop
            count += 1
            payload_bytes += length
        if count:
            passer.on_frames(data[start:at], count, payload_bytes)
        return at if self._partial is None else end

    def _extend(self, partial: bytearray, data: bytes) -> int:
        """Extend an incomplete frame; return how many bytes of `data` it consumed."""
        missing = self._partial_missing
        if len(data) < missing:
            partial += data
            self._partial_missing = missing - len(data)
            return len(data)
        partial += data if len(data) == missing else memoryview(data)[:missing]
        self._partial = None
        body = self._body
        key = _key_from_start(partial, 0, body) if self._from_client else b""
        if key:
            websocket_mask(key, partial)
        passer = self._passer
        if passer is None or passer.is_to_be_read(partial, body):
            self._on_message(TEXT, bytes(memoryview(partial)[body:]))
        else:
            if key:
                websocket_mask(key, partial)
            passer.on_frames(partial, 1, len(partial) - body)
        return missing


def _long(kind: int, data: bytes, at: int, end: int) -> int:
    """Return the 64-bit length of the frame at `at`, or more than any limit if there is none."""
    start = at + _HEADER_BYTES
    if kind != _LONG or start + _LONG_BYTES > end:
        return _BEYOND_LIMITS
    length: int = _long_length(data, start)[0]
    return length if length > _MEDIUM_MAX_BYTES else _BEYOND_LIMITS


def _key_from_start(data: Bytes, start: int, body: int) -> bytes:
    """Return the key of a client's frame, turned so that it fits a buffer from `start` on.

    To unmask a whole frame in place saves a copy of its payload; its header becomes meaningless.
    """
    key = bytes(data[body - _KEY_BYTES : body])
    return key if (body - start) % _KEY_BYTES == 0 else key[2:] + key[:2]
