"""Decode what the gateway writes to a socket."""

from __future__ import annotations

from typing import Final

TEXT: Final = 0x81
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A
"""The first byte of a frame that is neither fragmented nor compressed."""


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Split unmasked WebSocket frames: first byte and payload of each."""
    found = []
    at = 0
    while at < len(data):
        kind, size = data[at], data[at + 1]
        at += 2
        if size == 126:
            size = int.from_bytes(data[at : at + 2], "big")
            at += 2
        elif size == 127:
            size = int.from_bytes(data[at : at + 8], "big")
            at += 8
        found.append((kind, data[at : at + size]))
        at += size
    return found
