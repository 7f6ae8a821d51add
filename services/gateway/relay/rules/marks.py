"""Checks quickly whether a client's frame may name a method that is served here. Pure.

Every frame of a client is searched. A search for several bytes takes up to 2 ms in a frame of 1 MB,
and one for a single byte a hundredth of that, so single bytes are searched for first.
"""

from __future__ import annotations

from typing import Final

_DEVICE: Final = b"device."
_NODE_REMOVE: Final = b"node.pair.remove"
_IN_BOTH: Final = ord("v")
"""A letter of both names that few short frames contain."""
_ESCAPE: Final = b"\\u"
_BACKSLASH: Final = ord("\\")
_NODE_BYTES: Final = len(b"node")
_SHORT_BYTES: Final = 2048
_STEPS: Final = 16
"""How many dots or backslashes of a long text are looked at one by one before all of it is
searched. An attachment in base64 has none."""


def may_name_ours(text: bytes | bytearray, start: int = 0) -> bool:
    r"""Return whether the JSON text from `start` on has to be parsed to learn its method.

    A text without these names and without a `\u` escape, the only other way to write their letters,
    names no method that is served here.
    """
    if _IN_BOTH in text and _has_name(text, start):
        return True
    return _BACKSLASH in text and _has_escape(text, start)


def _has_name(text: bytes | bytearray, start: int) -> bool:
    if len(text) > _SHORT_BYTES:
        at = text.find(b".", start)
        for _ in range(_STEPS):
            if at < 0:
                return False
            if text.endswith(b"device", start, at):
                return True
            if text.startswith(_NODE_REMOVE, max(start, at - _NODE_BYTES)):
                return True
            at = text.find(b".", at + 1)
    return text.find(_DEVICE, start) >= 0 or text.find(_NODE_REMOVE, start) >= 0


def _has_escape(text: bytes | bytearray, start: int) -> bool:
    if len(text) > _SHORT_BYTES:
        at = text.find(b"\\", start)
        for _ in range(_STEPS):
            if at < 0:
                return False
            if text.startswith(_ESCAPE, at):
                return True
            at = text.find(b"\\", at + 1)
    return text.find(_ESCAPE, start) >= 0
