"""Frames that RFC 6455 forbids a client to send, and the close code for each."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.support.websocket.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    frame_bytes,
)

PROTOCOL_ERROR: Final = 1002
INVALID_TEXT: Final = 1007
TOO_BIG: Final = 1009
FRAME_LIMIT_BYTES: Final = 26_214_400


class Broken(NamedTuple):
    """A client's bytes, and the close code that answers them."""

    name: str
    sent: bytes
    code: int = PROTOCOL_ERROR


def closing(payload: bytes) -> bytes:
    """Return a close frame with this payload."""
    return frame_bytes(payload, CLOSE)


def _codes() -> list[Broken]:
    wrong = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535]
    return [Broken(f"close code {code}", closing(code.to_bytes(2, "big"))) for code in wrong]


BROKEN: Final = (
    # 5.1, 5.3: every frame of a client is masked.
    Broken("unmasked text", frame_bytes(b"{}", key=None)),
    Broken("unmasked empty text", frame_bytes(b"", key=None)),
    Broken("unmasked binary", frame_bytes(b"x", BINARY, key=None)),
    Broken("unmasked ping", frame_bytes(b"x", PING, key=None)),
    Broken("unmasked pong", frame_bytes(b"", PONG, key=None)),
    Broken("unmasked close", frame_bytes(b"\x03\xe8", CLOSE, key=None)),
    Broken("unmasked long text", frame_bytes(b"x" * 200, key=None)),
    Broken("unmasked, header alone", frame_bytes(b"", key=None, announce=70_000)),
    Broken(
        "unmasked continuation",
        frame_bytes(b"{", fin=False) + frame_bytes(b"}", CONTINUATION, key=None),
    ),
    # 5.2: reserved bits, reserved opcodes, lengths.
    *(
        Broken(f"reserved bit {bit:#x} of {name}", frame_bytes(b"", opcode, rsv=bit))
        for bit in (RSV1, 0x20, 0x10, 0x70)
        for name, opcode in (("text", TEXT), ("ping", PING), ("close", CLOSE))
    ),
    Broken(
        "reserved bit of a continuation",
        frame_bytes(b"{", fin=False) + frame_bytes(b"}", CONTINUATION, rsv=RSV1),
    ),
    *(Broken(f"opcode {code}", frame_bytes(b"", code)) for code in (3, 4, 5, 6, 7, 11, 12, 15)),
    Broken("opcode 3 as a fragment", frame_bytes(b"", 3, fin=False)),
    Broken("a short length in 2 bytes", frame_bytes(b"{}", length_bytes=2)),
    Broken("length 125 in 2 bytes", frame_bytes(b"x" * 125, length_bytes=2)),
    Broken("a short length in 8 bytes", frame_bytes(b"{}", length_bytes=8)),
    Broken("length 65535 in 8 bytes", frame_bytes(b"", announce=65_535, length_bytes=8)),
    Broken("length 0 in 8 bytes", frame_bytes(b"", length_bytes=8)),
    Broken("a length with the first bit set", frame_bytes(b"", announce=2**63)),
    Broken("the longest length", frame_bytes(b"", announce=2**64 - 1)),
    Broken("a message over the limit", frame_bytes(b"", announce=FRAME_LIMIT_BYTES + 1), TOO_BIG),
    Broken("the longest valid length", frame_bytes(b"", announce=2**63 - 1), TOO_BIG),
    Broken(
        "fragments over the limit",
        frame_bytes(b"{", fin=False) + frame_bytes(b"", CONTINUATION, announce=FRAME_LIMIT_BYTES),
        TOO_BIG,
    ),
    # 5.4: fragmentation.
    Broken("a continuation of nothing", frame_bytes(b"x", CONTINUATION)),
    Broken("an unfinished continuation of nothing", frame_bytes(b"x", CONTINUATION, fin=False)),
    Broken("a text inside of a text", frame_bytes(b"{", fin=False) + frame_bytes(b"{}")),
    Broken("a text inside of an empty text", frame_bytes(b"", fin=False) + frame_bytes(b"{}")),
    Broken(
        "an unfinished text inside of a text",
        frame_bytes(b"", fin=False) + frame_bytes(b"", fin=False),
    ),
    Broken("a binary inside of a text", frame_bytes(b"{", fin=False) + frame_bytes(b"x", BINARY)),
    Broken(
        "a text inside of an empty binary", frame_bytes(b"", BINARY, fin=False) + frame_bytes(b"{}")
    ),
    Broken(
        "a text after an empty continuation",
        frame_bytes(b"", fin=False)
        + frame_bytes(b"", CONTINUATION, fin=False)
        + frame_bytes(b"{}"),
    ),
    # 5.5: control frames.
    Broken("a fragmented ping", frame_bytes(b"x", PING, fin=False)),
    Broken("a fragmented pong", frame_bytes(b"", PONG, fin=False)),
    Broken("a fragmented close", frame_bytes(b"\x03\xe8", CLOSE, fin=False)),
    Broken("a ping of 126 bytes", frame_bytes(b"x" * 126, PING)),
    Broken("a pong of 70000 bytes", frame_bytes(b"", PONG, announce=70_000)),
    Broken("a close of 126 bytes", closing(b"\x03\xe8" + b"x" * 124)),
    Broken("a ping in 2 length bytes", frame_bytes(b"x", PING, length_bytes=2)),
    # 5.5.1, 7.4: close codes and reasons.
    Broken("a close of one byte", closing(b"\x03")),
    *_codes(),
    Broken("a close with a broken reason", closing(b"\x03\xe8\xff"), INVALID_TEXT),
    Broken("a close with a surrogate", closing(b"\x03\xe8\xed\xa0\x80"), INVALID_TEXT),
    Broken("a close with half a character", closing(b"\x03\xe8\xc3"), INVALID_TEXT),
)
"""None of them completes a valid message before it breaks a rule."""
