"""JSON objects about operators, and the bodies of calls about them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.operators import (  # noqa: TC001 (msgspec reads them)
    OperatorKind,
    OperatorName,
    OperatorRecord,
)
from services.approval.domain.permissions import Permission, PermissionName
from services.approval.domain.records import Milliseconds  # noqa: TC001 (msgspec reads it)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.operators.operators import ListedOperator


class OperatorObject(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """An operator. `kind` is `admin` for the holder of APPROVAL_ADMIN_TOKEN, else `token`."""

    name: str
    kind: OperatorKind
    permission: PermissionName
    created_at_ms: Milliseconds | UnsetType = UNSET
    created_by: str | UnsetType = UNSET
    expires_at_ms: Annotated[Milliseconds, Meta(description="Absent: never.")] | UnsetType = UNSET
    expired: bool = False
    last_used_at_ms: (
        Annotated[Milliseconds, Meta(description="Accurate to a minute.")] | UnsetType
    ) = UNSET


class OperatorList(msgspec.Struct, frozen=True):
    """All operators by name, the holder of APPROVAL_ADMIN_TOKEN first."""

    operators: list[OperatorObject]


class NewOperator(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """An operator to create; without `expiresAtMs`, the token does not expire."""

    name: OperatorName
    permission: PermissionName
    expires_at_ms: Annotated[Milliseconds, Meta(le=2**53 - 1)] | UnsetType = UNSET


class CreatedOperator(msgspec.Struct, frozen=True):
    """The new operator and its token, which is shown only here."""

    operator: OperatorObject
    token: str


class RevokedOperator(msgspec.Struct, frozen=True):
    """The operator whose token was revoked and whose sessions have ended."""

    revoked: OperatorObject


def operator_object(
    name: str, record: OperatorRecord, now_ms: int, last_used_ms: int = 0
) -> OperatorObject:
    """Return the JSON object of a named operator."""
    return OperatorObject(
        name=name,
        kind="token",
        permission=record.permission,
        created_at_ms=record.created_at_ms,
        created_by=record.created_by,
        expires_at_ms=record.expires_at_ms or UNSET,
        expired=not record.is_live(now_ms),
        last_used_at_ms=last_used_ms or UNSET,
    )


def operator_list(found: Sequence[ListedOperator], now_ms: int) -> OperatorList:
    """Return the JSON objects of all operators."""
    return OperatorList(
        [
            OperatorObject(
                name=one.name,
                kind="admin",
                permission=Permission.MANAGE.label,
                last_used_at_ms=one.last_used_ms or UNSET,
            )
            if one.record is None
            else operator_object(one.name, one.record, now_ms, one.last_used_ms)
            for one in found
        ]
    )
