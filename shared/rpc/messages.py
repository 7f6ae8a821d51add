"""What gateway and approval say to each other (design §3), as msgpack arrays.

Fields are only ever appended, with defaults: a receiver ignores what it does not know, so replicas
of two releases understand each other during a rolling deploy.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec


class Position(msgspec.Struct, array_like=True, frozen=True, order=True):
    """A point in the history of all records: number and random tag; (0, "") before the first."""

    number: int = 0
    tag: str = ""


class ClientInfo(msgspec.Struct, array_like=True, frozen=True):
    """What a client said about itself; empty texts for what it left out."""

    id: str
    mode: str
    version: str
    platform: str
    device_family: str = ""
    display_name: str = ""


class Guess(msgspec.Struct, array_like=True, frozen=True):
    """A wrong secret: its class, and its keyed digest, by which it is known when it comes again."""

    credential: str
    digest: str


class AuthorizeDevice(msgspec.Struct, tag="admission", array_like=True, frozen=True):
    """The question: may this device come in, whose key the gateway has proven.

    `call_id` is the connection's id and stays the same over all tries, so that what a try wrote
    is found by the next; a question asked anew (ASKED_ANEW) is another call. `method`: `token`
    (the gateway token was right) or `device-token`; then `candidate` is to be verified, and
    `candidate_field` says where it stood in `auth` (beside a right gateway token it is told as
    well, for an address where that one is locked out); `wrong_secret`: a gateway token that came is
    wrong; `guessed_secret`: and it is not the candidate itself, so it counts even if that one is
    right. `address` is the client's IP address. After `not_after_ms` (store's clock; 0: not
    known) nothing is written for this question any more. `trusted`: the client is one of the
    gateway's own machine, and such are trusted there. `guesses` are keyed digests of the wrong
    gateway tokens, but for the candidate while it may be right; `candidate_offered`: it came as a
    gateway token as well.
    """

    call_id: str
    device_id: str
    public_key: str
    role: str
    scopes: list[str]
    client: ClientInfo
    method: str
    address: str
    protocol: int
    candidate: str = ""
    candidate_field: str = ""
    wrong_secret: bool = False
    not_after_ms: int = 0
    guessed_secret: bool = False
    trusted: bool = False
    guesses: list[str] = []
    candidate_offered: bool = False


class ReportSecret(msgspec.Struct, tag="knock", array_like=True, frozen=True):
    """The question of a client that proves no device, or brings no secret that could be right.

    `classes` are the kinds of secrets it brought; of several locks the first one's is told.
    `right`: the gateway found the secret in order, which need not be enough to let the client in.
    Wrong ones are counted; the answer says whether the address is locked out. After
    `not_after_ms` (store's clock; 0: not known) nothing is counted for it any more. `guesses` are
    the wrong secrets, which may have come beside a right one.
    """

    call_id: str
    address: str
    classes: list[str]
    right: bool
    not_after_ms: int = 0
    guesses: list[Guess] = []


class CallerInfo(msgspec.Struct, array_like=True, frozen=True):
    """Who calls a method over a socket.

    `kind`: `shared-secret`, `device-token`, or `gateway` for the gateway itself. `name` is for the
    audit log. `scopes` are the live ones of the socket, which the record of `device_id` may only
    narrow; `epoch` is what `Admitted` said.
    """

    kind: str
    name: str
    role: str
    scopes: list[str]
    device_id: str = ""
    epoch: str = ""


class Call(msgspec.Struct, tag="call", array_like=True, frozen=True):
    """A call of a method. `params` are sound; `protocol` is the caller's, for words and shapes.

    `call_id` stays the same over all tries, so that what a try did is not done again; nothing is
    done after `not_after_ms` (store's clock).
    """

    call_id: str
    method: str
    params: dict[str, Any]
    caller: CallerInfo
    protocol: int
    not_after_ms: int


class Present(msgspec.Struct, array_like=True, frozen=True):
    """One connection of a gateway: its number there, whose it is, and since when."""

    number: int
    device_id: str
    role: str
    since_ms: int


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """A device that a gateway has let in, so many milliseconds before it says so.

    An age, because the two have no clock in common. `method` as for Admission. `name` is what it
    calls itself; `app` and `platform` are the client id and the platform of a native app, whose
    platform carries the version of its operating system. Empty for what it left out.
    """

    device_id: str
    role: str
    method: str
    address: str
    age_ms: int
    name: str = ""
    app: str = ""
    platform: str = ""


class RefusalReport(msgspec.Struct, array_like=True, frozen=True):
    """Attempts to connect that a gateway turned away for the same reason, one after another.

    `reason` is a code; `undecided`: nobody could say whether the client may connect. `device_id` is
    what the client claimed (empty: nothing that could be one), and `proven` whether its signature
    held. `number` names this run of attempts at this gateway, `count` says how many there were and
    `confirmed` how many of them an answered beat has told already, so that a report which arrives
    twice counts once. Ages are in milliseconds before the report, of the last attempt and of the
    first. `detail` is one more fact, such as the page's origin or the request id.
    """

    reason: str
    undecided: bool
    device_id: str
    proven: bool
    address: str
    number: int
    count: int
    confirmed: int
    age_ms: int
    first_age_ms: int
    client_id: str = ""
    display_name: str = ""
    detail: str = ""


LEASE_MS: Final = 10_000
"""For how long a gateway's presence is kept that does not say how long its lease is."""


class BeatQuestion(msgspec.Struct, tag="beat", array_like=True, frozen=True):
    """A gateway's beat: what has changed since `applied`? And: I am here, with these connections.

    `booted` is False until an answer has told where history stands. `builds_on` is the beat whose
    presence this one's `joined` and `left` change; 0: whatever was known is to be forgotten first.
    `seen` are those let in since the last answered beat; told twice is the same as told once.
    `lease_ms`: after so long without an answered beat nobody is connected there any more.
    `version` is the gateway's release (empty: an older release, which does not say), `uptime_s` how
    long its process has been running.
    `refused` are those turned away since the last answered beat.
    """

    beat_id: int
    applied: Position
    booted: bool
    builds_on: int
    connections: int
    joined: list[Present] = []
    left: list[int] = []
    seen: list[Seen] = []
    lease_ms: int = LEASE_MS
    version: str = ""
    uptime_s: int = 0
    refused: list[RefusalReport] = []


class Leaving(msgspec.Struct, tag="leaving", array_like=True, frozen=True):
    """A gateway leaves for good: nobody is connected to it any more. The answer is Clear."""


Question = AuthorizeDevice | ReportSecret | BeatQuestion | Call | Leaving


class Admitted(msgspec.Struct, tag="admitted", array_like=True, frozen=True):
    """Yes, decided at `change`. `token_scopes` are those of the device token, sorted.

    `epoch` names the span in which sockets of this device and role stay open: a rotation or a
    revocation ends it. `method` is what let it in, as for Admission; empty: what was asked with.
    """

    change: Position
    device_token: str
    token_scopes: list[str]
    issued_at_ms: int
    epoch: str = ""
    method: str = ""


class NeedsPairing(msgspec.Struct, tag="needs-pairing", array_like=True, frozen=True):
    """Not before a person approves `request_id`; approved lists are None without a record."""

    change: Position
    reason: str
    request_id: str
    approved_roles: list[str] | None = None
    approved_scopes: list[str] | None = None


class Denied(msgspec.Struct, tag="denied", array_like=True, frozen=True):
    """No, for good.

    `why`: `device-token-mismatch`, `scope-mismatch` or `key-mismatch`.
    """

    change: Position
    why: str


class TooManyPending(msgspec.Struct, tag="overfull", array_like=True, frozen=True):
    """No pending request could be kept: the limit is reached; the client should come back."""

    change: Position


class LockedOut(msgspec.Struct, tag="locked", array_like=True, frozen=True):
    """No: too many wrong secrets came from this address; not before so many milliseconds."""

    change: Position
    retry_after_ms: int


class SecretAccepted(msgspec.Struct, tag="clear", array_like=True, frozen=True):
    """The knock was taken notice of, and the address is not locked out."""

    change: Position


Answer = Admitted | NeedsPairing | Denied | TooManyPending | LockedOut | SecretAccepted


class Result(msgspec.Struct, tag="returned", array_like=True, frozen=True):
    """What a call returns: JSON, deflated if `packed`. What it did lies at or below `change`."""

    change: Position
    payload: bytes
    packed: bool = False


class Error(msgspec.Struct, tag="failed", array_like=True, frozen=True):
    """Why a call fails, in the words of the caller's protocol."""

    code: str
    message: str
    details: dict[str, Any] | None = None


Outcome = Result | Error


class Alive(msgspec.Struct, tag="alive", array_like=True, frozen=True):
    """News: an approval replica. Only a `ready` one takes questions; one that leaves is not."""

    boot_id: str
    ready: bool = True


class Changed(msgspec.Struct, tag="changed", array_like=True, frozen=True):
    """News: one change of a device's record.

    `previous_tag` is that of the change before. `closes` names the roles whose live sockets of
    this device end (4001), `*` for all; most changes close none. `kind` is the audit log's word.
    `request` is the request that was made, as JSON for clients; `call_id` the call that did this.
    """

    change: Position
    previous_tag: str
    device_id: str
    kind: str
    at_ms: int
    closes: list[str] = []
    request_id: str = ""
    superseded_id: str = ""
    request: bytes = b""
    call_id: str = ""


class BeatAnswer(msgspec.Struct, tag="beat-answer", array_like=True, frozen=True):
    """The answer to a beat, read in one step after the gateway's presence was written.

    `changes` follow the gateway's own newest in order, at most so many that `head` may still be
    ahead of them. `resync`: the history that the gateway knows is not the store's, or too long ago.
    `presence_at` is the beat whose presence is held now; `now_ms` the store's clock.
    `presence_version` rises whenever somebody comes or goes at any gateway.
    """

    beat_id: int
    head: Position
    now_ms: int
    presence_at: int
    resync: bool = False
    changes: list[Changed] = []
    presence_version: int = 0


News = Alive | Changed

EVERY_ROLE: Final = "*"
ASKED_ANEW: Final = "#"
"""Stands in a call id between the connection's id and the how manieth question this is, from 2."""

SHARED_SECRET: Final = "shared-secret"  # noqa: S105 (the name of a credential class)
DEVICE_TOKEN: Final = "device-token"  # noqa: S105 (the name of a credential class)
BOOTSTRAP_TOKEN: Final = "bootstrap-token"  # noqa: S105 (the name of a credential class)

_encode: Final = msgspec.msgpack.Encoder().encode
decode_question: Final = msgspec.msgpack.Decoder(Question).decode
"""Decode a question; raises msgspec.DecodeError."""
decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode
"""Decode an answer; raises msgspec.DecodeError."""
decode_outcome: Final = msgspec.msgpack.Decoder(Outcome).decode
"""Decode what became of a call; raises msgspec.DecodeError."""
decode_beat_answer: Final = msgspec.msgpack.Decoder(BeatAnswer).decode
"""Decode the answer to a beat; raises msgspec.DecodeError."""
decode_news: Final = msgspec.msgpack.Decoder(News).decode
"""Decode news; raises msgspec.DecodeError."""


def encode(message: Question | Answer | Outcome | BeatAnswer | News) -> bytes:
    """Encode a question, an answer or news."""
    return _encode(message)
