"""Types of the HTTP API's parameters: path, query and body of each operation."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.backup.format import Sha256  # noqa: TC001 (msgspec reads it)
from services.approval.backup.records import BackupDevice  # noqa: TC001 (msgspec reads it)
from services.approval.domain import listing, records
from services.approval.domain.operators import OperatorName
from services.approval.domain.rules import RuleName
from services.approval.imports.records import ImportDevice  # noqa: TC001 (msgspec reads it)
from services.approval.schemas import lockouts
from services.approval.schemas.setup_codes import SetupId
from services.approval.schemas.webhooks import WebhookName
from shared.protocol.connect import Role
from shared.protocol.limits import (
    LABEL_LIMIT_CHARACTERS,
    LIST_LIMIT_ITEMS,
    TEXT_LIMIT_CHARACTERS,
)

PARAMETERS: Final = {
    "requestId": records.RequestId,
    "deviceId": records.DeviceId,
    "role": Role,
    "credential": lockouts.Credential,
    "lockedAddress": lockouts.LockedAddress,
    "operatorName": OperatorName,
    "webhookName": WebhookName,
    "ruleName": RuleName,
    "setupId": SetupId,
}
"""Types of path parameters, by name."""

RESTORE_LIMIT_DEVICES: Final = 99_999_999
PART_LIMIT_DEVICES: Final = 200
"""Max. devices restored or imported by one call."""

REJECT_LIMIT_REQUESTS: Final = 200
"""Max. requests rejected by one call."""
NAMED_LIMIT: Final = 50
"""Max. device ids in `ids`, and request ids in `keep`."""

_REQUEST_ID: Final = "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
_NOT_BLANK: Final = r"[^\s\u001c-\u001f\u0085\ufeff]"
"""Excludes all white space of Python and of JavaScript."""

Scope = Annotated[str, Meta(max_length=TEXT_LIMIT_CHARACTERS)]


class Nothing(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """No parameters: no body, or an empty object."""


class Approve(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Options of an approval. Without a body, everything requested is approved."""

    allow_admin: Annotated[
        bool,
        Meta(description="If false, fail (`grants-admin`) if this would grant operator.admin."),
    ] = True


class RejectMany(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """The requests to reject, exactly as they were shown to the operator."""

    request_ids: Annotated[
        list[records.RequestId], Meta(min_length=1, max_length=REJECT_LIMIT_REQUESTS)
    ]


class Rename(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A label for a device; surrounding blanks are removed, and the rest must not be empty."""

    label: Annotated[
        str,
        Meta(min_length=1, max_length=LABEL_LIMIT_CHARACTERS, pattern=_NOT_BLANK),
    ]


class Rotate(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Scopes of the new token (default: those of the old one); each must be approved already."""

    scopes: Annotated[list[Scope], Meta(max_length=LIST_LIMIT_ITEMS)] | UnsetType = UNSET


class RestorePart(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Part of a backup: devices from index `at` on, of `total`."""

    backup_id: Annotated[Sha256, Meta(description="`sha256` of the backup's last line.")]
    number: Annotated[int, Meta(ge=0, le=2**52, description="`number` of its last line.")]
    total: Annotated[int, Meta(ge=0, le=RESTORE_LIMIT_DEVICES)]
    at: Annotated[int, Meta(ge=0, le=RESTORE_LIMIT_DEVICES)]
    devices: Annotated[list[BackupDevice], Meta(max_length=PART_LIMIT_DEVICES)]


class ImportPart(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Some devices of an import. All parts of one import have the same id."""

    import_id: Annotated[
        str,
        Meta(
            pattern=r"^[0-9a-f]{16}$",
            description="Random; the audit log names it with each device.",
        ),
    ]
    devices: Annotated[list[ImportDevice], Meta(max_length=PART_LIMIT_DEVICES)]
    dry_run: Annotated[
        bool, Meta(description="If true, change nothing, and answer what would happen.")
    ] = False


Search = Annotated[
    str,
    Meta(
        max_length=TEXT_LIMIT_CHARACTERS,
        description=(
            "Only entries that contain each of these words in a name, an id, the client, the "
            "platform, the address, a role or a scope, ignoring case."
        ),
    ),
]
Limit = Annotated[
    int,
    Meta(
        ge=1,
        le=listing.PART_LIMIT,
        description=(
            "Maximum number of entries; `next` in the response leads to the following page. "
            "Default: 200 with `q` or `after`, otherwise all."
        ),
    ),
]
After = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,16}\.[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$",
        description="`next` of the previous response, to continue from there.",
    ),
]


class RequestsQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Filter and page of requests."""

    limit: Limit | UnsetType = UNSET
    after: After | UnsetType = UNSET
    q: Search = ""
    address: Annotated[
        str,
        Meta(
            max_length=TEXT_LIMIT_CHARACTERS,
            description="Only requests from this address, as given in `addresses`.",
        ),
    ] = ""
    per_address: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=listing.PART_LIMIT,
                description="Maximum number of requests per address, newest first.",
            ),
        ]
        | UnsetType
    ) = UNSET
    keep: Annotated[
        str,
        Meta(
            pattern=rf"^({_REQUEST_ID}(,{_REQUEST_ID}){{0,{NAMED_LIMIT - 1}}})?$",
            description="Comma-separated request ids to list in any case while they are pending.",
        ),
    ] = ""


class DevicesQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Filter and page of devices."""

    limit: Limit | UnsetType = UNSET
    after: After | UnsetType = UNSET
    q: Search = ""
    ids: Annotated[
        str,
        Meta(
            pattern=rf"^([0-9a-f]{{64}}(,[0-9a-f]{{64}}){{0,{NAMED_LIMIT - 1}}})?$",
            description="Comma-separated device ids: list only these; others are ignored.",
        ),
    ] = ""


class AuditQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Part of the audit log."""

    after: (
        Annotated[
            records.ChangeNumber,
            Meta(description="Return the first entries with a higher number. Default: the newest."),
        ]
        | UnsetType
    ) = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="Maximum number of entries.")] = 100


class RefusalsQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Filter of refusals."""

    device_id: (
        Annotated[
            str,
            Meta(
                pattern=r"^[0-9a-f]{64}$",
                max_length=64,
                description="Only refusals of this device, and of clients that claimed its id.",
            ),
        ]
        | UnsetType
    ) = UNSET
    of: Annotated[
        Literal["all", "unknown"],
        Meta(description="`unknown`: only clients that are neither paired nor pending."),
    ] = "all"
    limit: Annotated[int, Meta(ge=1, le=200, description="Maximum number of refusals.")] = 50


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Start of the event stream."""

    after: (
        Annotated[
            records.ChangeNumber,
            Meta(description="Start after this number; the header Last-Event-ID has precedence."),
        ]
        | UnsetType
    ) = UNSET
