"""Paired devices in backups and restores, as validated JSON objects."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from services.approval.domain.identities import APPROVED_LIMIT, as_seen
from services.approval.domain.records import (
    DeviceId,
    Identity,
    LastSeen,
    Metadata,
    Pairing,
    Record,
    Token,
)
from shared.protocol.connect import Role
from shared.protocol.limits import LIST_LIMIT_ITEMS, TEXT_LIMIT_CHARACTERS
from shared.protocol.signing import decode_public_key, device_id_of, encode_base64

_NOT_IN_BACKUPS: Final = {"imported", "imported_until_ms", "exchanged_by"}
"""An imported token is accepted once. After a restore, a used one would be accepted again."""
_TOKEN_FIELDS: Final = tuple(
    name for name in Token.__struct_fields__ if name not in _NOT_IN_BACKUPS
)

Moment = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Milliseconds since 1970.")]
Text = Annotated[str, Meta(max_length=TEXT_LIMIT_CHARACTERS)]
Scopes = Annotated[tuple[Text, ...], Meta(max_length=LIST_LIMIT_ITEMS)]
Roles = Annotated[tuple[Role, ...], Meta(min_length=1, max_length=2)]


class BackupToken(
    msgspec.Struct,
    rename="camel",
    omit_defaults=True,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
):
    """A role's device token: its scopes and the id it is derived from (empty once revoked)."""

    role: Role
    token_id: Text
    scopes: Scopes
    created_at_ms: Moment
    rotated_at_ms: Moment = 0
    revoked_at_ms: Moment = 0
    last_used_at_ms: Moment = 0
    token_generation: Text = msgspec.field(default="", name="epoch")


class BackupMetadata(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """The device's description of itself when approved, with later changes applied."""

    client_id: Text
    client_mode: Text
    platform: Text
    device_family: Text = ""
    display_name: Text = ""
    address: Text = ""


class BackupIdentity(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """A further approved identity of the device, for another client or role."""

    role: Role
    client_id: Text
    client_mode: Text
    platform: Text
    device_family: Text = ""
    display_name: Text = ""


class BackupPairing(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """The approved state of a device."""

    metadata: BackupMetadata
    role: Role
    roles: Roles
    scopes: Scopes
    tokens: Annotated[tuple[BackupToken, ...], Meta(max_length=2)]
    created_at_ms: Moment
    approved_at_ms: Moment
    approved_via: Text
    operator_label: Text = ""
    others: Annotated[tuple[BackupIdentity, ...], Meta(max_length=APPROVED_LIMIT - 1)] = ()


class BackupLastSeen(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """When, why and from where the device was last admitted."""

    at_ms: Moment
    reason: Text
    address: Text


class BackupDevice(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """A paired device, complete except for a pending request."""

    device_id: DeviceId
    public_key: Text
    pairing: BackupPairing
    seen: BackupLastSeen | None = None


def to_backup(record: Record, pairing: Pairing, seen: LastSeen | None) -> BackupDevice:
    """Return the backup's object for a paired device."""
    used = seen.used if seen else {}
    tokens = [
        {"role": role, "last_used_at_ms": used.get(role, 0), **_stored(token)}
        for role, token in sorted(pairing.tokens.items())
    ]
    fields = msgspec.structs.asdict(pairing) | {
        "metadata": BackupMetadata(**msgspec.structs.asdict(as_seen(pairing, seen))),
        "others": tuple(BackupIdentity(**msgspec.structs.asdict(one)) for one in pairing.others),
        "tokens": tuple(BackupToken(**token) for token in tokens),
    }
    return BackupDevice(
        record.device_id,
        record.public_key,
        BackupPairing(**fields),
        BackupLastSeen(seen.at, seen.why, seen.address) if seen else None,
    )


def record_of(device: BackupDevice) -> Record:
    """Return the record to restore for a device in a backup."""
    pairing = device.pairing
    fields = msgspec.structs.asdict(pairing) | {
        "metadata": Metadata(**msgspec.structs.asdict(pairing.metadata)),
        "others": tuple(Identity(**msgspec.structs.asdict(one)) for one in pairing.others),
        "tokens": {token.role: _token(token) for token in pairing.tokens},
    }
    return Record(device.device_id, device.public_key, Pairing(**fields))


def last_seen_of(device: BackupDevice) -> LastSeen | None:
    """Return when a device in a backup was last seen."""
    if device.seen is None:
        return None
    tokens = device.pairing.tokens
    used: dict[str, int] = {one.role: one.last_used_at_ms for one in tokens if one.last_used_at_ms}
    return LastSeen(device.seen.at_ms, device.seen.reason, device.seen.address, used)


def unsound(device: BackupDevice) -> str:
    """Return why a device in a backup is inconsistent; empty if it is valid."""
    key = decode_public_key(device.public_key)
    if key is None or encode_base64(key) != device.public_key:
        return "its public key is invalid"
    if device_id_of(key) != device.device_id:
        return "its id does not match its key"
    pairing = device.pairing
    roles = [token.role for token in pairing.tokens]
    if len(set(roles)) < len(roles):
        return "it holds two tokens for one role"
    if not {pairing.role, *roles} <= set(pairing.roles):
        return "it holds a role that was not approved"
    if any(not token.token_id and not token.revoked_at_ms for token in pairing.tokens):
        return "it holds a token without an id"
    return ""


def _token(token: BackupToken) -> Token:
    fields = msgspec.structs.asdict(token)
    return Token(**{name: fields[name] for name in _TOKEN_FIELDS})


def _stored(token: Token) -> dict[str, Any]:
    fields = msgspec.structs.asdict(token)
    return {name: fields[name] for name in _TOKEN_FIELDS}
