"""Encoding of questions and answers: msgpack arrays, extended only by appending fields."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from shared.bus.envelope import MESSAGE_LIMIT_BYTES, OVERHEAD_LIMIT_BYTES

QUESTIONS_PER_MESSAGE: Final = 256
"""Maximum number of items in one message, checked before the first one is decoded."""
BATCH_LIMIT_BYTES: Final = 1024 * 1024
"""Bodies are combined up to this size; a larger one is sent alone."""
BODY_LIMIT_BYTES: Final = MESSAGE_LIMIT_BYTES - 4 * OVERHEAD_LIMIT_BYTES
"""Maximum size of the body of one question or answer."""

OK: Final = "ok"
BUSY: Final = "busy"
NIL: Final = msgspec.Raw(b"\xc0")


class Item(msgspec.Struct, array_like=True, gc=False):
    """One question; the requester's `id` is the same for every attempt."""

    id: int
    body: msgspec.Raw


class Questions(msgspec.Struct, array_like=True, gc=False):
    """What a gateway publishes on `ask_channel`."""

    items: Annotated[list[Item], msgspec.Meta(max_length=QUESTIONS_PER_MESSAGE)]


class ItemAnswer(msgspec.Struct, array_like=True, gc=False):
    """One answer. `status`: `ok`, or `busy` (not processed; ask another replica)."""

    id: int
    status: str
    body: msgspec.Raw = NIL


class Answers(msgspec.Struct, array_like=True, gc=False):
    """What an approval replica publishes on `inbox_channel`."""

    items: Annotated[list[ItemAnswer], msgspec.Meta(max_length=QUESTIONS_PER_MESSAGE)]


MALFORMED: Final = (msgspec.MsgspecError, RecursionError)
"""What the decoders below raise; deeply nested arrays raise RecursionError."""

encode: Final = msgspec.msgpack.Encoder().encode
decode_questions: Final = msgspec.msgpack.Decoder(Questions).decode
decode_answers: Final = msgspec.msgpack.Decoder(Answers).decode
