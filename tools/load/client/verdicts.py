"""Evaluates the gateway's decisions against whether the device was approved."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

PAIRING_REQUIRED: Final = "PAIRING_REQUIRED"
UNAVAILABLE: Final = "UNAVAILABLE"
_COMES_BACK: Final = frozenset({1012, 1013})
"""Close codes that ask the client to reconnect; they do not refuse the device."""
_REQUEST_ID: Final = re.compile(r" ?\(requestId: [^)]*\)?$")


class Broken(Exception):
    """The gateway sent a frame that violates the protocol."""


class Kind(StrEnum):
    """The result of an attempt to connect."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    """"pairing required" for a device without approval."""
    UNAVAILABLE = "unavailable"
    """Asked to reconnect: no decision was made."""
    FAILED = "failed"
    """No decision: not connected, cut off, no WebSocket, or too late."""
    WRONGLY_ADMITTED = "wrongly admitted"
    """A device without approval was admitted."""
    WRONGLY_REFUSED = "wrongly refused"
    """An approved device was refused, or an unapproved one for a reason other than pairing."""


class Outcome(NamedTuple):
    """What is counted: kind, response or problem, and close frame.

    `close_code` is 0 if no close frame was received.
    """

    kind: Kind
    what: str = ""
    close_code: int = 0
    close_reason: str = ""


class ChallengePayload(msgspec.Struct):
    """The nonce to sign and the gateway's clock."""

    nonce: str
    ts: int


class Challenge(msgspec.Struct):
    """The first frame."""

    event: str
    payload: ChallengePayload


class Details(msgspec.Struct):
    """The part of an error for programs."""

    code: str = ""
    request_id: str = msgspec.field(name="requestId", default="")


class Error(msgspec.Struct):
    """The error of a refusal."""

    code: str
    message: str = ""
    details: Details = msgspec.field(default_factory=Details)


class Auth(msgspec.Struct):
    """The token in an admission."""

    device_token: str = msgspec.field(name="deviceToken", default="")


class Hello(msgspec.Struct):
    """The payload of an admission."""

    type: str
    auth: Auth = msgspec.field(default_factory=Auth)


class Answer(msgspec.Struct):
    """A frame after `connect`: its response if `type` is res, otherwise ignored."""

    type: str
    id: str = ""
    ok: bool = False
    payload: Hello | None = None
    error: Error | None = None


class _Event(msgspec.Struct):
    type: str


_challenge: Final = msgspec.json.Decoder(Challenge).decode
_answer: Final = msgspec.json.Decoder(Answer).decode
_event: Final = msgspec.json.Decoder(_Event).decode


def read_challenge(payload: bytes) -> ChallengePayload:
    """Decode the first frame. Raises Broken."""
    try:
        frame = _challenge(payload)
    except msgspec.MsgspecError as error:
        raise Broken("no connect.challenge") from error
    if frame.event != "connect.challenge":
        raise Broken("no connect.challenge")
    return frame.payload


def read_answer(payload: bytes) -> Answer | None:
    """Decode a frame after `connect`; None for an event. Raises Broken."""
    try:
        if _event(payload).type == "event":
            return None
        answer = _answer(payload)
    except msgspec.MsgspecError as error:
        raise Broken("no answer to connect") from error
    if answer.ok and (answer.payload is None or answer.payload.type != "hello-ok"):
        raise Broken("an admission that is no hello-ok")
    return answer


def judge(
    *, approved: bool, answer: Answer | None, close: tuple[int, str] | None, problem: str
) -> Outcome:
    """Return the outcome of an attempt.

    `answer` is the response to `connect`, `close` the close frame, `problem` an error on this side
    of the connection; each is None or empty if absent.
    """
    code, reason = close or (0, "")
    reason = _REQUEST_ID.sub("", reason)
    if answer is not None and answer.ok:
        return Outcome(Kind.ADMITTED if approved else Kind.WRONGLY_ADMITTED)
    if answer is not None and answer.error is not None:
        detail = answer.error.details.code
        shown = " ".join(dict.fromkeys(filter(None, (answer.error.code, detail))))
        if answer.error.code == UNAVAILABLE:
            return Outcome(Kind.UNAVAILABLE, shown, code, reason)
        right = not approved and detail == PAIRING_REQUIRED
        return Outcome(Kind.REFUSED if right else Kind.WRONGLY_REFUSED, shown, code, reason)
    if code in _COMES_BACK:
        return Outcome(Kind.UNAVAILABLE, "closed", code, reason)
    if code:
        return Outcome(Kind.FAILED, problem or "closed without an answer", code, reason)
    return Outcome(Kind.FAILED, problem or "cut off")
