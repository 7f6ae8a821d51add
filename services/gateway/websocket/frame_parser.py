"""A parser for the frames of a WebSocket peer (RFC 6455 §5). No I/O.

A protocol violation raises BrokenFrame with the close code that the RFC requires; a header is
checked before its payload is buffered. UTF-8 is not checked here: the JSON decoder rejects invalid
text. Unmasking uses aiohttp's C implementation.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from aiohttp._websocket.helpers import websocket_mask

from shared.protocol.closing import CloseCode, may_be_sent

if TYPE_CHECKING:
    from collections.abc import Callable

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
_MASKED: Final = 0x80
_WHOLE_TEXT: Final = _FIN | TEXT
"""The first byte of nearly every frame."""
_OPCODES: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

_HEADER_BYTES: Final = 2
_KEY_BYTES: Final = 4
_SHORT_MAX_BYTES: Final = 125
"""The longest payload with a 7-bit length, and the longest of any control frame."""
_MEDIUM: Final = 126
_MEDIUM_MAX_BYTES: Final = 0xFFFF
_MEDIUM_LENGTH: Final = Struct("!H")
_MEDIUM_BYTES: Final = _MEDIUM_LENGTH.size
_LONG_LENGTH: Final = Struct("!Q")
_LONG_BYTES: Final = _LONG_LENGTH.size
_LONG_MAX_BYTES: Final = 2**63 - 1
"""The most significant bit of a 64-bit length must be 0."""
_CODE_BYTES: Final = 2


_WRONG_MASK: Final = {
    True: "a frame of a client is not masked",
    False: "a frame of a server is masked",
}


class BrokenFrame(Exception):
    """The peer violated the protocol; `code` is the close code to send."""

    def __init__(self, why: str, code: CloseCode = CloseCode.PROTOCOL_MISMATCH) -> None:
        super().__init__(why)
        self.code = code


class FrameParser:
    """Parses a peer's bytes, in chunks of any size, into complete messages.

    Frames of a client have to be masked, and those of a server must not be.

    `on_message` gets the opcode and the payload. Fragments are joined; a close frame's payload is
    valid. `on_broken` gets a BrokenFrame, or any exception that `on_message` raised. After an error
    or a close frame, all further bytes are ignored.
    """

    __slots__ = (
        "_ended",
        "_first",
        "_from_client",
        "_header",
        "_key",
        "_key_bytes",
        "_kind",
        "_larger_limit",
        "_left_bytes",
        "_limit_bytes",
        "_mask",
        "_message",
        "_missing_bytes",
        "_on_broken",
        "_on_message",
        "_payload",
        "_unmask",
    )

    def __init__(
        self,
        on_message: Callable[[int, bytes], None],
        on_broken: Callable[[Exception], None],
        *,
        message_limit_bytes: int,
        larger_limit: Callable[[], int] | None = None,
        from_client: bool = True,
    ) -> None:
        """Create a parser. `larger_limit` returns the limit to apply to longer messages, if any."""
        self._on_message = on_message
        self._on_broken = on_broken
        self._from_client = from_client
        self._key_bytes = _KEY_BYTES if from_client else 0
        self._mask = _MASKED if from_client else 0
        self._unmask = websocket_mask if from_client else _leave
        self._limit_bytes = message_limit_bytes
        self._larger_limit = larger_limit
        self._left_bytes = message_limit_bytes
        """How many more bytes the current message may have; negative within a larger limit."""
        self._ended = False
        self._header = b""
        """The received part of an incomplete header."""
        self._first = 0
        self._key = b""
        self._payload: bytearray | None = None
        """The received part of an incomplete payload, still masked; `_missing_bytes` are left."""
        self._missing_bytes = 0
        self._kind = CONTINUATION
        self._message: bytearray | None = None
        """The fragments of an incomplete message."""

    @property
    def missing_bytes(self) -> int:
        """How many bytes of the current frame have not arrived; 0 between frames."""
        return self._missing_bytes if self._payload is not None else 0

    @property
    def incomplete(self) -> bytearray | None:
        """The buffer of a message that is incomplete, or None; another message has another one."""
        return self._payload if self._message is None else self._message

    @property
    def held_bytes(self) -> int:
        """How many bytes of incomplete messages and frames are held."""
        return len(self._payload or b"") + len(self._message or b"") + len(self._header)

    def feed(self, data: bytes) -> None:
        """Parse a chunk of bytes."""
        if self._ended:
            return
        try:
            start = 0
            if self._payload is not None:
                start = self._go_on(self._payload, data)
            elif self._header:
                data = self._header + data
                self._header = b""
            end = len(data)
            while start < end and not self._ended:
                start = self._take(data, start, end)
        except Exception as error:  # noqa: BLE001 (any error ends this connection only)
            self._break(error)

    def _break(self, error: Exception) -> None:
        """Forget everything and report an error."""
        self._ended = True
        self._header, self._payload, self._message = b"", None, None
        self._on_broken(error)

    def _take(self, data: bytes, start: int, end: int) -> int:
        """Parse the frame at `start`; return the start of the next frame, or `end`."""
        if end - start < _HEADER_BYTES:
            return self._wait(data, start)
        first, second = data[start], data[start + 1]
        if first != _WHOLE_TEXT or self._message is not None:
            self._check(first, second)
        key_bytes = self._key_bytes
        length = second ^ self._mask
        body = start + _HEADER_BYTES + key_bytes
        if length > _SHORT_MAX_BYTES:
            if length >= _MASKED:
                raise BrokenFrame(_WRONG_MASK[self._from_client])
            body += _MEDIUM_BYTES if length == _MEDIUM else _LONG_BYTES
            if body - key_bytes > end:
                return self._wait(data, start)
            length = _long_length(length, data, start + _HEADER_BYTES)
        if length > self._left_bytes and first & _CONTROL == 0 and not self._fits(length):
            raise BrokenFrame("a message is too big", CloseCode.TOO_BIG)
        stop = body + length
        if stop > end:
            return self._wait_for_payload(data, start, body, stop)
        payload = bytearray(data[body:stop])
        self._unmask(data[body - key_bytes : body], payload)
        if first == _WHOLE_TEXT:
            self._on_message(TEXT, bytes(payload))
        else:
            self._complete(first, payload)
        return stop

    def _fits(self, length: int) -> bool:
        """Return whether a frame that exceeds the ordinary limit is within the larger one."""
        received = self._limit_bytes - self._left_bytes
        return self._larger_limit is not None and received + length <= self._larger_limit()

    def _wait(self, data: bytes, start: int) -> int:
        """Keep an incomplete header until more bytes arrive."""
        self._header = data[start:]
        return len(data)

    def _wait_for_payload(self, data: bytes, start: int, body: int, stop: int) -> int:
        """Keep an incomplete frame, whose payload is at `body` and ends at `stop`."""
        end = len(data)
        if body > end:
            return self._wait(data, start)
        self._first, self._key = data[start], data[body - self._key_bytes : body]
        self._payload, self._missing_bytes = bytearray(data[body:]), stop - end
        return end

    def _go_on(self, payload: bytearray, data: bytes) -> int:
        """Extend an incomplete payload; return how many bytes of `data` it consumed."""
        missing = self._missing_bytes
        if len(data) < missing:
            payload += data
            self._missing_bytes = missing - len(data)
            return len(data)
        payload += data[:missing] if len(data) > missing else data
        self._payload = None
        self._unmask(self._key, payload)
        self._complete(self._first, payload)
        return missing

    def _check(self, first: int, second: int) -> None:
        """Validate a header that is not that of an unfragmented text message."""
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise BrokenFrame("a reserved bit is set although no extension was negotiated")
        if opcode not in _OPCODES:
            raise BrokenFrame("the opcode is reserved")
        if opcode & _CONTROL:
            if not first & _FIN:
                raise BrokenFrame("a control frame is fragmented")
            if second & ~_MASKED > _SHORT_MAX_BYTES:
                raise BrokenFrame("a control frame is longer than 125 bytes")
        elif (opcode == CONTINUATION) is (self._message is None):
            raise BrokenFrame(
                "a continuation frame does not continue a message"
                if opcode == CONTINUATION
                else "a message begins before the previous one is complete"
            )

    def _complete(self, first: int, payload: bytearray) -> None:
        """Process a complete frame."""
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            if opcode == CLOSE:
                _check_close(payload)
                self._ended = True
            self._on_message(opcode, bytes(payload))
            return
        if self._message is None:
            if first & _FIN:
                self._on_message(opcode, bytes(payload))
                return
            self._kind, self._message = opcode, payload
        else:
            self._message += payload
        self._left_bytes -= len(payload)
        if first & _FIN:
            message, self._message = self._message, None
            self._left_bytes = self._limit_bytes
            self._on_message(self._kind, bytes(message))


def _leave(_key: bytes, _payload: bytearray) -> None:
    """Leave a payload as it is: frames of a server are not masked."""


def _long_length(kind: int, data: bytes, at: int) -> int:
    """Return a 16-bit or 64-bit length. Raises BrokenFrame unless its encoding is minimal."""
    if kind == _MEDIUM:
        length: int = _MEDIUM_LENGTH.unpack_from(data, at)[0]
        shorter = _SHORT_MAX_BYTES
    else:
        length = _LONG_LENGTH.unpack_from(data, at)[0]
        shorter = _MEDIUM_MAX_BYTES
    if not shorter < length <= _LONG_MAX_BYTES:
        raise BrokenFrame("a payload length is not encoded minimally")
    return length


def _check_close(payload: bytearray) -> None:
    if not payload:
        return
    if len(payload) < _CODE_BYTES or not may_be_sent(close_code(payload)):
        raise BrokenFrame("a close frame has no valid code")
    try:
        payload[_CODE_BYTES:].decode()
    except UnicodeDecodeError:
        raise BrokenFrame("a close reason is not valid UTF-8", CloseCode.INVALID_TEXT) from None


def close_code(payload: bytes | bytearray) -> int:
    """Return the code in a close frame's payload, or 0 if it is empty."""
    return int.from_bytes(payload[:_CODE_BYTES], "big")
