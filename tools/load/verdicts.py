"""What a gateway said, and whether it was right to: decided by whether the device was approved."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

PAIRING_REQUIRED: Final = "PAIRING_REQUIRED"
UNAVAILABLE: Final = "UNAVAILABLE"
_COMES_BACK: Final = frozenset({1012, 1013})
"""Closes that say: not now. They are no refusal of the device."""
_REQUEST_ID: Final = re.compile(r" ?\(requestId: [^)]*\)?$")


class Broken(Exception):
    """The gateway sent a frame that is not of the protocol."""


class Kind(StrEnum):
    """What came of an attempt to connect."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    """"pairing required", to a device that nobody approved."""
    UNAVAILABLE = "unavailable"
    """Told to come back: nobody has judged the device."""
    FAILED = "failed"
    """No verdict: not connected, cut off, no WebSocket, too late."""
    WRONGLY_ADMITTED = "wrongly admitted"
    """A device that nobody approved is in."""
    WRONGLY_REFUSED = "wrongly refused"
    """An approved device is not let in, or a strange one for another reason than pairing."""


class Outcome(NamedTuple):
    """What is counted: kind, what was said or went wrong, and how the socket was closed.

    `close_code` is 0 where no close frame came.
    """

    kind: Kind
    what: str = ""
    close_code: int = 0
    close_reason: str = ""


class ChallengePayload(msgspec.Struct):
    """What is to be signed, and the gateway's clock."""

    nonce: str
    ts: int


class Challenge(msgspec.Struct):
    """The first frame."""

    event: str
    payload: ChallengePayload


class Details(msgspec.Struct):
    """The part of an error that programs read."""

    code: str = ""
    request_id: str = msgspec.field(name="requestId", default="")


class Error(msgspec.Struct):
    """Why not."""

    code: str
    message: str = ""
    details: Details = msgspec.field(default_factory=Details)


class Auth(msgspec.Struct):
    """What comes with an admission."""

    device_token: str = msgspec.field(name="deviceToken", default="")


class Hello(msgspec.Struct):
    """The payload of an admission."""

    type: str
    auth: Auth = msgspec.field(default_factory=Auth)


class Answer(msgspec.Struct):
    """A frame after `connect`: its answer where `type` is res, else something to pass over."""

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
    """Read the first frame. Raises Broken."""
    try:
        frame = _challenge(payload)
    except msgspec.MsgspecError as error:
        raise Broken("no connect.challenge") from error
    if frame.event != "connect.challenge":
        raise Broken("no connect.challenge")
    return frame.payload


def read_answer(payload: bytes) -> Answer | None:
    """Read a frame after `connect`; None where it is an event. Raises Broken."""
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
    """Say what an attempt came to.

    `answer` is what `connect` was answered, `close` the close frame that came, `problem` what went
    wrong on our side of the wire; each None or empty where there was none.
    """
    code, reason = close or (0, "")
    reason = _REQUEST_ID.sub("", reason)
    if answer is not None and answer.ok:
        return Outcome(Kind.ADMITTED if approved else Kind.WRONGLY_ADMITTED)
    if answer is not None and answer.error is not None:
        detail = answer.error.details.code
        said = " ".join(dict.fromkeys(filter(None, (answer.error.code, detail))))
        if answer.error.code == UNAVAILABLE:
            return Outcome(Kind.UNAVAILABLE, said, code, reason)
        right = not approved and detail == PAIRING_REQUIRED
        return Outcome(Kind.REFUSED if right else Kind.WRONGLY_REFUSED, said, code, reason)
    if code in _COMES_BACK:
        return Outcome(Kind.UNAVAILABLE, "closed", code, reason)
    if code:
        return Outcome(Kind.FAILED, problem or "closed without an answer", code, reason)
    return Outcome(Kind.FAILED, problem or "cut off")
