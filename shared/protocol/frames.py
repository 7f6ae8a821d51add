"""Frames after hello, and the encoding of everything the gateway sends."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared.protocol import schema
from shared.protocol.limits import EXPLAINED_LIMIT_BYTES


class RequestFrame(msgspec.Struct, frozen=True):
    """A request from a connected client; `params` stay undecoded until a method reads them."""

    type: Literal["req"]
    id: Annotated[str, Meta(min_length=1)]
    method: Annotated[str, Meta(min_length=1)]
    params: msgspec.Raw = msgspec.Raw(b"{}")
    traceparent: Annotated[str, Meta(max_length=128)] | UnsetType = UNSET
    expected_profile_id: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = (
        msgspec.field(default=UNSET, name="expectedProfileId")
    )


class BrokenFrame(Exception):
    """JSON that is not a valid request; answered with its id if it has one."""

    def __init__(self, frame_id: str, problem: str) -> None:
        super().__init__(problem)
        self.frame_id = frame_id
        self.problem = problem


class NotJson(Exception):
    """Text that is not JSON; ignored after hello."""


class ErrorBody(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """The error in a response: a code for programs, a message for people, details for clients."""

    code: str
    message: str
    details: dict[str, Any] | None = None
    retryable: bool | None = None
    retry_after_ms: int | None = None


class _Failure(msgspec.Struct, tag_field="type", tag="res", frozen=True):
    id: str
    ok: bool
    error: ErrorBody


class Success(msgspec.Struct, tag_field="type", tag="res", frozen=True):
    """A response with a result."""

    id: str
    ok: bool
    payload: Any


UNKNOWN_ID: Final = "invalid"
"""The id in the response to a request that has no valid id."""

_decode: Final = msgspec.json.Decoder(RequestFrame).decode
encode: Final = msgspec.json.Encoder().encode
"""Encode any value as JSON."""


def decode_request(text: bytes) -> RequestFrame:
    """Decode a request; raises NotJson or BrokenFrame."""
    try:
        if not text.isascii():
            text.decode()
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(text) > EXPLAINED_LIMIT_BYTES:
            raise BrokenFrame(UNKNOWN_ID, "not a request") from None
        return _explain(text)


def _explain(text: bytes) -> RequestFrame:
    try:
        value = schema.parse(text)
    except ValueError:
        raise NotJson from None
    problem = schema.request_problem(value)
    if problem is None:
        return RequestFrame(
            type="req",
            id=value["id"],
            method=value["method"],
            params=msgspec.Raw(encode(value.get("params", {}))),
        )
    sound_id = value.get("id") if isinstance(value, dict) and value.get("type") == "req" else None
    raise BrokenFrame(sound_id if sound_id and isinstance(sound_id, str) else UNKNOWN_ID, problem)


def failure(frame_id: str, error: ErrorBody) -> bytes:
    """Encode an error response."""
    return encode(_Failure(frame_id, ok=False, error=error))


def success(frame_id: str, payload: object) -> bytes:
    """Encode a success response with a payload."""
    return encode(Success(frame_id, ok=True, payload=payload))
