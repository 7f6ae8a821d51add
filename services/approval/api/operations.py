"""What the HTTP API offers: one table that its routes and its description are both made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval import problems
from services.approval.backup import format as backups
from services.approval.backup.records import KeptDevice  # noqa: TC001 (msgspec reads it)
from services.approval.domain import fields, listing
from services.approval.domain.audit import AuditEntry
from services.approval.schemas import devices as objects
from services.approval.schemas import lockouts
from shared.protocol.connect import Role
from shared.protocol.limits import (
    LABEL_LIMIT_CHARACTERS,
    LIST_LIMIT_ITEMS,
    TEXT_LIMIT_CHARACTERS,
)

if TYPE_CHECKING:
    from services.approval.problems import Kind

PARAMETERS: Final = {
    "requestId": fields.RequestId,
    "deviceId": fields.DeviceId,
    "role": Role,
    "credential": lockouts.Credential,
    "lockedAddress": lockouts.LockedAddress,
}
"""What may stand in a path, by name."""

RESTORE_LIMIT_DEVICES: Final = 99_999_999
PART_LIMIT_DEVICES: Final = 200
"""Devices that one call restores at most."""

REJECT_LIMIT_REQUESTS: Final = 200
"""Requests that one call rejects at most."""
NAMED_LIMIT: Final = 50
"""Devices that one call can name to read, and requests that one can name to keep."""

_REQUEST_ID: Final = "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
_NOT_BLANK: Final = r"[^\s\u001c-\u001f\u0085\ufeff]"
"""What is white space in Python or in JavaScript is none of it."""

Scope = Annotated[str, Meta(max_length=TEXT_LIMIT_CHARACTERS)]


class Nothing(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A call that brings nothing: no body, or an empty object."""


class Approve(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Without a body, whatever the request asks for is approved."""

    allow_admin: Annotated[
        bool,
        Meta(description="False: refuse (`grants-admin`) if this gives the device operator.admin."),
    ] = True


class RejectMany(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """The requests to reject: the very ones that somebody was shown."""

    request_ids: Annotated[
        list[fields.RequestId], Meta(min_length=1, max_length=REJECT_LIMIT_REQUESTS)
    ]


class Rename(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A label for a device; blanks around it are dropped, and something has to be left."""

    label: Annotated[
        str,
        Meta(min_length=1, max_length=LABEL_LIMIT_CHARACTERS, pattern=_NOT_BLANK),
    ]


class Rotate(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Scopes that the new token gets in place of the old one's; each must be approved already."""

    scopes: Annotated[list[Scope], Meta(max_length=LIST_LIMIT_ITEMS)] | UnsetType = UNSET


class RestorePart(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Some devices of a backup: those from the place `at` on, of `total`."""

    backup_id: Annotated[backups.Sha256, Meta(description="`sha256` of the backup's last line.")]
    number: Annotated[int, Meta(ge=0, le=2**52, description="`number` of its last line.")]
    total: Annotated[int, Meta(ge=0, le=RESTORE_LIMIT_DEVICES)]
    at: Annotated[int, Meta(ge=0, le=RESTORE_LIMIT_DEVICES)]
    devices: Annotated[list[KeptDevice], Meta(max_length=PART_LIMIT_DEVICES)]


Search = Annotated[
    str,
    Meta(
        max_length=TEXT_LIMIT_CHARACTERS,
        description=(
            "Only those with each of these words in a name, an id, the client, the platform, the "
            "address, a role or a scope, whatever the case."
        ),
    ),
]
Limit = Annotated[
    int,
    Meta(
        ge=1,
        le=listing.PART_LIMIT,
        description=(
            "At most so many; `next` of the answer goes on. Absent: 200 in a search or after an "
            "entry, else all of them."
        ),
    ),
]
After = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,16}\.[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$",
        description="`next` of the answer before: go on from there.",
    ),
]


class RequestsQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Which requests."""

    limit: Limit | UnsetType = UNSET
    after: After | UnsetType = UNSET
    q: Search = ""
    address: Annotated[
        str,
        Meta(
            max_length=TEXT_LIMIT_CHARACTERS,
            description="Only those from this address, as `addresses` of the answer names it.",
        ),
    ] = ""
    per_address: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=listing.PART_LIMIT,
                description="At most so many of an address, its newest.",
            ),
        ]
        | UnsetType
    ) = UNSET
    keep: Annotated[
        str,
        Meta(
            pattern=rf"^({_REQUEST_ID}(,{_REQUEST_ID}){{0,{NAMED_LIMIT - 1}}})?$",
            description="Request ids, with commas: list these in any case, if they still wait.",
        ),
    ] = ""


class DevicesQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Which devices."""

    limit: Limit | UnsetType = UNSET
    after: After | UnsetType = UNSET
    q: Search = ""
    ids: Annotated[
        str,
        Meta(
            pattern=rf"^([0-9a-f]{{64}}(,[0-9a-f]{{64}}){{0,{NAMED_LIMIT - 1}}})?$",
            description="Device ids, with commas: these alone, and the rest does not count.",
        ),
    ] = ""


class AuditQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which part of the audit log."""

    after: (
        Annotated[
            fields.ChangeNumber,
            Meta(description="The first entries with a higher number; without it, the newest."),
        ]
        | UnsetType
    ) = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="At most so many entries.")] = 100


class RefusalsQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Which refusals."""

    device_id: (
        Annotated[
            str,
            Meta(
                pattern=r"^[0-9a-f]{64}$",
                max_length=64,
                description="Only of this device, and of those that claimed to be it.",
            ),
        ]
        | UnsetType
    ) = UNSET
    of: Annotated[
        Literal["all", "unknown"],
        Meta(description="`unknown`: only clients that are neither paired nor wait."),
    ] = "all"
    limit: Annotated[int, Meta(ge=1, le=200, description="At most so many.")] = 50


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where to begin."""

    after: (
        Annotated[
            fields.ChangeNumber,
            Meta(description="Begin after this number; the header Last-Event-ID goes before it."),
        ]
        | UnsetType
    ) = UNSET


_EVERY_CALL: Final = (
    problems.MALFORMED,
    problems.UNAUTHORIZED,
    problems.CROSS_SITE,
    problems.LOCKED_OUT,
    problems.INTERNAL,
)
_OF_REQUEST: Final = (
    problems.UNKNOWN_REQUEST,
    problems.NOT_FOUND,
    problems.APPROVED,
    problems.REJECTED,
    problems.SUPERSEDED,
    problems.DISPLACED,
    problems.EXPIRED,
)
_OF_DEVICE: Final = (problems.UNKNOWN_DEVICE, problems.NOT_FOUND)
_OF_TOKEN: Final = (*_OF_DEVICE, problems.UNKNOWN_ROLE)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of operators: its name, where it is, what it brings and gets, how it can fail.

    `specific`: the problems beside those that every call can have. `token_only`: a
    session of the page is not enough. `streams`: it is answered with server-sent events without an
    end, whose data is the result. `lines`: it is answered with one such object a line.
    """

    id: str
    method: str
    path: str
    summary: str
    result: type[msgspec.Struct]
    specific: tuple[Kind, ...] = ()
    token_only: bool = False
    body: type[msgspec.Struct] = Nothing
    query: type[msgspec.Struct] = Nothing
    streams: bool = False
    lines: bool = False

    @property
    def changes(self) -> bool:
        """Whether it is more than reading."""
        return self.method != "GET"

    @property
    def problems(self) -> tuple[Kind, ...]:
        """Every problem that it can answer with."""
        brings = (problems.TOO_LARGE, problems.MEDIA) if self.changes else ()
        return (
            *_EVERY_CALL,
            *self.specific,
            *brings,
            problems.UNREADABLE,
            problems.UNAVAILABLE,
        )


OPERATIONS: Final = (
    Operation(
        "listRequests",
        "GET",
        "/v1/requests",
        "List the requests that wait, newest first",
        objects.PendingRequests,
        query=RequestsQuery,
    ),
    Operation(
        "approveRequest",
        "POST",
        "/v1/requests/{requestId}/approve",
        "Let a device in with what it asks for; again: the same",
        objects.Approved,
        (*_OF_REQUEST, problems.INVALID_SCOPE, problems.GRANTS_ADMIN),
        body=Approve,
    ),
    Operation(
        "rejectRequest",
        "POST",
        "/v1/requests/{requestId}/reject",
        "Refuse a request; again: the same",
        objects.Rejected,
        _OF_REQUEST,
    ),
    Operation(
        "rejectRequests",
        "POST",
        "/v1/requests/reject",
        "Reject these requests, all in one step; again: the same",
        objects.RejectedMany,
        body=RejectMany,
    ),
    Operation(
        "listDevices",
        "GET",
        "/v1/devices",
        "List the paired devices, the latest approved first",
        objects.PairedDevices,
        query=DevicesQuery,
    ),
    Operation(
        "getDevice",
        "GET",
        "/v1/devices/{deviceId}",
        "Show a paired device",
        objects.PairedDevice,
        _OF_DEVICE,
    ),
    Operation(
        "renameDevice",
        "PATCH",
        "/v1/devices/{deviceId}",
        "Give a paired device a label",
        objects.Renamed,
        _OF_DEVICE,
        body=Rename,
    ),
    Operation(
        "removeDevice",
        "DELETE",
        "/v1/devices/{deviceId}",
        "Forget a paired device and close its connections",
        objects.Removed,
        _OF_DEVICE,
    ),
    Operation(
        "rotateToken",
        "POST",
        "/v1/devices/{deviceId}/tokens/{role}/rotate",
        "Draw a new token for a role and close the role's connections",
        objects.Rotated,
        (*_OF_TOKEN, problems.INVALID_SCOPE),
        body=Rotate,
    ),
    Operation(
        "revokeToken",
        "POST",
        "/v1/devices/{deviceId}/tokens/{role}/revoke",
        "Revoke a role's token and close the role's connections; again: the same",
        objects.Revoked,
        _OF_TOKEN,
    ),
    Operation(
        "listRefusals",
        "GET",
        "/v1/refusals",
        "List who was turned away in the last day, why, and what to do; newest first",
        objects.RecentRefusals,
        query=RefusalsQuery,
    ),
    Operation(
        "readAudit",
        "GET",
        "/v1/audit",
        "Read who did what, when",
        objects.AuditPage,
        query=AuditQuery,
    ),
    Operation(
        "followEvents",
        "GET",
        "/v1/events",
        "Read who does what, live, as server-sent events; from the present unless told otherwise",
        AuditEntry,
        (problems.LISTENERS,),
        query=EventsQuery,
        streams=True,
    ),
    Operation(
        "listReplicas",
        "GET",
        "/v1/replicas",
        "List the live gateways and approvals",
        objects.LiveReplicas,
    ),
    Operation(
        "listLockouts",
        "GET",
        "/v1/lockouts",
        "List the addresses that are locked out after too many wrong secrets",
        lockouts.Lockouts,
    ),
    Operation(
        "liftLockout",
        "DELETE",
        "/v1/lockouts/{credential}/{lockedAddress}",
        "Lift a lock-out, at every replica at once",
        lockouts.LiftedLockout,
        (problems.UNKNOWN_LOCKOUT, problems.NOT_FOUND),
    ),
    Operation(
        "readBackup",
        "GET",
        "/v1/backup",
        "Read all paired devices and the audit log, as of one change",
        backups.Line,
        (problems.BACKUPS,),
        token_only=True,
        lines=True,
    ),
    Operation(
        "restorePart",
        "POST",
        "/v1/restore",
        "Restore some devices of a backup, where none was paired when it began; again: the same",
        objects.RestoreProgress,
        (problems.NOT_EMPTY, problems.OTHER_RESTORE, problems.UNSOUND),
        token_only=True,
        body=RestorePart,
    ),
    Operation(
        "openSession",
        "POST",
        "/v1/session",
        "Sign in for the operators' page: the admin token gives a cookie",
        objects.OpenSession,
        token_only=True,
    ),
    Operation(
        "readSession",
        "GET",
        "/v1/session",
        "Say whether the caller is signed in, and until when",
        objects.OpenSession,
    ),
    Operation(
        "endSession",
        "DELETE",
        "/v1/session",
        "Sign out: the session of the cookie ends at every replica",
        objects.EndedSession,
    ),
)
