"""Paired devices in backups and restores, as validated JSON objects."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.approval.domain.identities import APPROVED_LIMIT, as_seen
from services.approval.domain.records import (
    DeviceId,
    Identity,
    Metadata,
    Pairing,
    Record,
    Sighting,
    Token,
)
from shared.protocol.connect import Role
from shared.protocol.limits import LIST_LIMIT_ITEMS, TEXT_LIMIT_CHARACTERS
from shared.protocol.signing import decode_public_key, device_id_of, encode_base64

Moment = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Milliseconds since 1970.")]
Text = Annotated[str, Meta(max_length=TEXT_LIMIT_CHARACTERS)]
Scopes = Annotated[tuple[Text, ...], Meta(max_length=LIST_LIMIT_ITEMS)]
Roles = Annotated[tuple[Role, ...], Meta(min_length=1, max_length=2)]


class KeptToken(
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


class KeptMetadata(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """The device's description of itself when approved, with later changes applied."""

    client_id: Text
    client_mode: Text
    platform: Text
    device_family: Text = ""
    display_name: Text = ""
    address: Text = ""


class KeptIdentity(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """A further approved identity of the device, for another client or role."""

    role: Role
    client_id: Text
    client_mode: Text
    platform: Text
    device_family: Text = ""
    display_name: Text = ""


class KeptPairing(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """The approved state of a device."""

    metadata: KeptMetadata
    role: Role
    roles: Roles
    scopes: Scopes
    tokens: Annotated[tuple[KeptToken, ...], Meta(max_length=2)]
    created_at_ms: Moment
    approved_at_ms: Moment
    approved_via: Text
    operator_label: Text = ""
    others: Annotated[tuple[KeptIdentity, ...], Meta(max_length=APPROVED_LIMIT - 1)] = ()


class KeptSighting(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """When, why and from where the device was last admitted."""

    at_ms: Moment
    reason: Text
    address: Text


class KeptDevice(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """A paired device, complete except for a pending request."""

    device_id: DeviceId
    public_key: Text
    pairing: KeptPairing
    seen: KeptSighting | None = None


def kept(record: Record, pairing: Pairing, seen: Sighting | None) -> KeptDevice:
    """Return the backup's object for a paired device."""
    used = seen.used if seen else {}
    tokens = [
        {"role": role, "last_used_at_ms": used.get(role, 0), **msgspec.structs.asdict(token)}
        for role, token in sorted(pairing.tokens.items())
    ]
    fields = msgspec.structs.asdict(pairing) | {
        "metadata": KeptMetadata(**msgspec.structs.asdict(as_seen(pairing, seen))),
        "others": tuple(KeptIdentity(**msgspec.structs.asdict(one)) for one in pairing.others),
        "tokens": tuple(KeptToken(**token) for token in tokens),
    }
    return KeptDevice(
        record.device_id,
        record.public_key,
        KeptPairing(**fields),
        KeptSighting(seen.at, seen.why, seen.address) if seen else None,
    )


def record_of(device: KeptDevice) -> Record:
    """Return the record to restore for a device in a backup."""
    pairing = device.pairing
    fields = msgspec.structs.asdict(pairing) | {
        "metadata": Metadata(**msgspec.structs.asdict(pairing.metadata)),
        "others": tuple(Identity(**msgspec.structs.asdict(one)) for one in pairing.others),
        "tokens": {token.role: _token(token) for token in pairing.tokens},
    }
    return Record(device.device_id, device.public_key, Pairing(**fields))


def sighting_of(device: KeptDevice) -> Sighting | None:
    """Return the sighting to restore for a device in a backup."""
    if device.seen is None:
        return None
    tokens = device.pairing.tokens
    used: dict[str, int] = {one.role: one.last_used_at_ms for one in tokens if one.last_used_at_ms}
    return Sighting(device.seen.at_ms, device.seen.reason, device.seen.address, used)


def unsound(device: KeptDevice) -> str:
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


def _token(kept: KeptToken) -> Token:
    fields = msgspec.structs.asdict(kept)
    return Token(**{name: fields[name] for name in Token.__struct_fields__})
