"""Messages between gateway and approval, encoded as msgpack arrays.

Fields are only ever appended, with defaults. A receiver ignores fields it does not know, so
replicas of two releases understand each other during a rolling deploy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from shared.rpc.reports import (  # noqa: TC001 (msgspec reads them)
    Present,
    RefusalReport,
    Seen,
    UpstreamState,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Position(msgspec.Struct, array_like=True, frozen=True, order=True):
    """A position in the change history: number and random tag; (0, "") before the first change."""

    number: int = 0
    tag: str = ""


class ClientInfo(msgspec.Struct, array_like=True, frozen=True):
    """What a client reported about itself; empty strings for what it left out."""

    id: str
    mode: str
    version: str
    platform: str
    device_family: str = ""
    display_name: str = ""


class Guess(msgspec.Struct, array_like=True, frozen=True):
    """A wrong secret: its class, and a keyed digest that identifies repeated guesses."""

    credential: str
    digest: str


class AuthorizeDevice(msgspec.Struct, tag="authorize-device", array_like=True, frozen=True):
    """Ask whether a device may connect; the gateway has verified its key.

    `call_id` is the connection's id. It stays the same over all attempts, so that an attempt finds
    what an earlier one wrote; a question that is asked again (ASKED_ANEW) is another call.

    `method` is `token` (the gateway token was right) or `device-token`. For `device-token`,
    `token_candidate` is to be verified as the device's token; `candidate_field` says where it was
    in `auth`. A candidate beside a right gateway token is included as well, in case the address is
    locked out for that token.

    `gateway_token_failed`: no gateway token that the client sent was right. `wrong_gateway_token`:
    one of them is not the candidate, so it counts as wrong even if the candidate is right.
    `guesses` are keyed digests of the wrong gateway tokens, without the candidate as long as it may
    be right. `candidate_offered`: the candidate was also sent as a gateway token.
    `setup_digest` is the hash of the setup code's token (`shared.setup_tokens`), which is tried
    before the device token.

    `address` is the client's IP address. `trusted`: the client is on the gateway's own machine,
    where local clients are trusted. After `not_after_ms` (the store's clock; 0: unknown) nothing is
    written for this question.
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
    token_candidate: str = ""
    candidate_field: str = ""
    gateway_token_failed: bool = False
    not_after_ms: int = 0
    wrong_gateway_token: bool = False
    trusted: bool = False
    guesses: list[str] = []
    candidate_offered: bool = False
    setup_digest: str = ""


class ReportSecret(msgspec.Struct, tag="report-secret", array_like=True, frozen=True):
    """Report the secrets of a client without a valid device proof or a plausible secret.

    `classes` are the classes of secrets that the client sent; if several are locked, the answer
    names the first one. `right`: the gateway accepted the secret, which may not be enough to admit
    the client. Wrong secrets are counted, and the answer says whether the address is locked out.
    `guesses` are the wrong secrets, which may accompany a right one. After `not_after_ms` (the
    store's clock; 0: unknown) nothing is counted.
    """

    call_id: str
    address: str
    classes: list[str]
    right: bool
    not_after_ms: int = 0
    guesses: list[Guess] = []


class CallerInfo(msgspec.Struct, array_like=True, frozen=True):
    """The caller of a method over a socket.

    `kind`: `shared-secret`, `device-token`, or `gateway` for the gateway itself. `name` is for the
    audit log. `scopes` are those of the connection, which the record of `device_id` may only
    restrict. `token_generation` is the value from `Admitted`.
    """

    kind: str
    name: str
    role: str
    scopes: list[str]
    device_id: str = ""
    token_generation: str = ""


class Call(msgspec.Struct, tag="call", array_like=True, frozen=True):
    """A method call with valid `params`; `protocol` selects the form of the result.

    `call_id` stays the same over all attempts, so that none repeats what an earlier one did. After
    `not_after_ms` (the store's clock) nothing is written.
    """

    call_id: str
    method: str
    params: dict[str, Any]
    caller: CallerInfo
    protocol: int
    not_after_ms: int


LEASE_MS: Final = 10_000
"""How long to keep the presence of a gateway that does not specify its lease."""


class HeartbeatQuestion(msgspec.Struct, tag="heartbeat", array_like=True, frozen=True):
    """A gateway's heartbeat: its connections, and a query for the changes since `applied`.

    `booted` is False until an answer has given the head of the history. `builds_on` is the
    heartbeat whose presence is changed by `joined` and `left`; 0 replaces all earlier presence.
    `seen` are the devices admitted, and `refused` the attempts refused, since the last answered
    heartbeat; reporting them twice has no effect. `lease_ms`: after this long without an answered
    heartbeat, the gateway has no connections left. `version` is the gateway's release, and
    `uptime_s` the age of its process.
    `addresses_after_ms` is the time (store's clock) up to which the gateway knows addresses of
    admitted devices; -1 if it does not relay. `upstream` is the state of its upstream; None if it
    has none.
    """

    heartbeat_id: int
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
    addresses_after_ms: int = -1
    upstream: UpstreamState | None = None


class Leaving(msgspec.Struct, tag="leaving", array_like=True, frozen=True):
    """A gateway shuts down and has no connections left. The answer is SecretAccepted."""


class TokenCheck(msgspec.Struct, tag="token-check", array_like=True, frozen=True):
    """The question of a plain HTTP request: whether this is the device's token of a role.

    `token` is as it was derived, without the device id. A wrong one is counted like one on a
    WebSocket. After `not_after_ms` (store's clock; 0: not known) nothing is counted for it.
    """

    call_id: str
    address: str
    device_id: str
    role: str
    token: str
    not_after_ms: int = 0


Question = AuthorizeDevice | ReportSecret | HeartbeatQuestion | Call | Leaving | TokenCheck


class ExtraToken(msgspec.Struct, array_like=True, frozen=True):
    """A device token for a further role, for a device that was paired by a setup code."""

    role: str
    device_token: str
    scopes: list[str]
    issued_at_ms: int


class Admitted(msgspec.Struct, tag="admitted", array_like=True, frozen=True):
    """Admitted, as decided at `change`. `token_scopes` are those of the device token, sorted.

    `token_generation` identifies the period during which sockets of this device and role stay open:
    a rotation or a revocation ends it. `method` is the method that succeeded, as for
    AuthorizeDevice; empty if it is the requested one. `more_tokens` are tokens for further roles.
    `setup_id` is the setup code that this admission used up; the gateway reports whether hello-ok
    was sent.
    """

    change: Position
    device_token: str
    token_scopes: list[str]
    issued_at_ms: int
    token_generation: str = ""
    method: str = ""
    more_tokens: list[ExtraToken] = []
    setup_id: str = ""


class NeedsPairing(msgspec.Struct, tag="needs-pairing", array_like=True, frozen=True):
    """A person has to approve `request_id` first; approved lists are None without a record.

    `by_setup_code`: the device presented a valid setup code, and may retry with it.
    """

    change: Position
    reason: str
    request_id: str
    approved_roles: list[str] | None = None
    approved_scopes: list[str] | None = None
    by_setup_code: bool = False


class Denied(msgspec.Struct, tag="denied", array_like=True, frozen=True):
    """Permanently refused.

    `why`: `device-token-mismatch`, `scope-mismatch`, `key-mismatch` or `setup-code-invalid`.
    """

    change: Position
    why: str


class TooManyPending(msgspec.Struct, tag="too-many-pending", array_like=True, frozen=True):
    """The limit of pending requests is reached; the client should retry later."""

    change: Position


class LockedOut(msgspec.Struct, tag="locked-out", array_like=True, frozen=True):
    """Refused: too many wrong secrets from this address; retry after this many milliseconds."""

    change: Position
    retry_after_ms: int


class SecretAccepted(msgspec.Struct, tag="secret-accepted", array_like=True, frozen=True):
    """The report was counted, and the address is not locked out."""

    change: Position


class TokenHolder(msgspec.Struct, tag="token-holder", array_like=True, frozen=True):
    """The checked token is valid, as of `change`; its scopes, sorted."""

    change: Position
    scopes: list[str]


Answer = (
    Admitted | NeedsPairing | Denied | TooManyPending | LockedOut | SecretAccepted | TokenHolder
)


class Result(msgspec.Struct, tag="result", array_like=True, frozen=True):
    """The result of a call: JSON, deflated if `packed`. Its effects lie at or before `change`."""

    change: Position
    payload: bytes
    packed: bool = False


class Error(msgspec.Struct, tag="error", array_like=True, frozen=True):
    """Why a call fails, in the words of the caller's protocol."""

    code: str
    message: str
    details: dict[str, Any] | None = None


Outcome = Result | Error


class Alive(msgspec.Struct, tag="alive", array_like=True, frozen=True):
    """Event: an approval replica is alive. One that is not `ready` is shutting down."""

    boot_id: str
    ready: bool = True


class Changed(msgspec.Struct, tag="changed", array_like=True, frozen=True):
    """Event: one change of a device's record.

    `previous_tag` is the tag of the preceding change. `closes` names the roles whose open sockets
    of this device are closed (4001), `*` for all; most changes close none. `kind` is the type of
    the audit log entry. `request` is the pairing request as JSON for clients; `call_id` identifies
    the call that made the change.
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


class Addresses(msgspec.Struct, tag="addresses", array_like=True, frozen=True):
    """Event: devices were admitted or approved from these addresses (limit keys)."""

    keys: list[str]


class HeartbeatAnswer(msgspec.Struct, tag="heartbeat-answer", array_like=True, frozen=True):
    """The answer to a heartbeat, read in one step after the gateway's presence was written.

    `changes` directly follow the gateway's position, in order; their number is limited, so `head`
    may be ahead of the last one. `resync`: the gateway's history is not the store's, or is too far
    behind. `presence_at` is the heartbeat whose presence is now stored; `now_ms` the store's clock.
    `presence_version` increases whenever a connection joins or leaves at any gateway.
    `addresses` are those from which devices were admitted, up to `addresses_at_ms`.
    """

    heartbeat_id: int
    head: Position
    now_ms: int
    presence_at: int
    resync: bool = False
    changes: list[Changed] = []
    presence_version: int = 0
    addresses: list[str] = []
    addresses_at_ms: int = -1


Event = Alive | Changed | Addresses

EVERY_ROLE: Final = "*"
ASKED_ANEW: Final = "#"
"""In a call id, separates the connection's id from the number of the question, from 2."""

SHARED_SECRET: Final = "shared-secret"  # noqa: S105 (the name of a credential class)
DEVICE_TOKEN: Final = "device-token"  # noqa: S105 (the name of a credential class)
BOOTSTRAP_TOKEN: Final = "bootstrap-token"  # noqa: S105 (the name of a credential class)
DEVICE_JOIN: Final = "device-join"
"""Credential class of the short codes in join URLs."""

SETUP_JOIN: Final = "setup.join"
"""Method for gateways: use up the join URL with the short code `code`, for a client `address`."""
SETUP_DELIVERED: Final = "setup.delivered"
"""Method for gateways: report whether hello-ok was sent to the device that used `setupId`."""

encode: Final[Callable[[Question | Answer | Outcome | HeartbeatAnswer | Event], bytes]] = (
    msgspec.msgpack.Encoder().encode
)
"""Encode a question, an answer or an event."""
decode_question: Final = msgspec.msgpack.Decoder(Question).decode
"""Decode a question; raises msgspec.DecodeError."""
decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode
"""Decode an answer; raises msgspec.DecodeError."""
decode_outcome: Final = msgspec.msgpack.Decoder(Outcome).decode
"""Decode the outcome of a call; raises msgspec.DecodeError."""
decode_heartbeat_answer: Final = msgspec.msgpack.Decoder(HeartbeatAnswer).decode
"""Decode the answer to a heartbeat; raises msgspec.DecodeError."""
decode_event: Final = msgspec.msgpack.Decoder(Event).decode
"""Decode an event; raises msgspec.DecodeError."""
