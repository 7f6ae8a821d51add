"""Decodes a recorded WebSocket stream: bytes of one direction to text messages (RFC 6455). Pure."""

from __future__ import annotations

from typing import Final

_HEADER_END: Final = b"\r\n\r\n"
_UPGRADED: Final = b"HTTP/1.1 101 "
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_OPCODE: Final = 0x0F
_CONTINUATION: Final = 0x0
_CONTROL_FROM: Final = 0x8
_LENGTH_IN_2: Final = 126
_LENGTH_IN_8: Final = 127
_MASK_BYTES: Final = 4


class MessageReader:
    """One direction of a connection, from its HTTP header on.

    Connections that are not WebSockets, such as page requests, have no messages.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._open = False
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes and return the messages that they complete."""
        self._buffer += data
        if not self._open and not self._past_header():
            return []
        messages = []
        while (frame := self._frame()) is not None:
            first, payload = frame
            opcode = first & _OPCODE
            if opcode >= _CONTROL_FROM:
                continue
            if opcode != _CONTINUATION:
                self._parts.clear()
            self._parts.append(payload)
            if first & _FINAL:
                messages.append(b"".join(self._parts))
        return messages

    def _past_header(self) -> bool:
        header, end, rest = self._buffer.partition(_HEADER_END)
        if not end:
            return False
        if (
            not header.startswith((_UPGRADED, b"GET "))
            or b"upgrade: websocket" not in header.lower()
        ):
            self._buffer.clear()
            return False
        self._buffer = rest
        self._open = True
        return True

    def _frame(self) -> tuple[int, bytes] | None:
        """Return the next frame's first byte and its unmasked payload, once it is complete."""
        head = self._buffer
        if len(head) < 2:
            return None
        masked, size, at = head[1] & _MASKED, head[1] & ~_MASKED, 2
        if size in {_LENGTH_IN_2, _LENGTH_IN_8}:
            end = at + (2 if size == _LENGTH_IN_2 else 8)
            if len(head) < end:
                return None
            size, at = int.from_bytes(head[at:end], "big"), end
        mask = bytes(head[at : at + _MASK_BYTES]) if masked else b""
        start = at + (_MASK_BYTES if masked else 0)
        if len(head) < start + size:
            return None
        first, payload = head[0], bytes(head[start : start + size])
        del head[: start + size]
        return first, _unmask(payload, mask) if masked else payload


def _unmask(payload: bytes, mask: bytes) -> bytes:
    key = (mask * (len(payload) // _MASK_BYTES + 1))[: len(payload)]
    size = len(payload)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
