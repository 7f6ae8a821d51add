"""Devices to import, as validated JSON objects, and the records made of them. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.records import Metadata, Pairing, Token
from shared.protocol.connect import Role  # noqa: TC001 (msgspec reads it)
from shared.protocol.limits import (
    DISPLAY_NAME_LIMIT_CHARACTERS,
    LABEL_LIMIT_CHARACTERS,
    PUBLIC_KEY_LIMIT_CHARACTERS,
    SCOPE_LIMIT_CHARACTERS,
    SCOPES_HELD_LIMIT_ITEMS,
    TEXT_LIMIT_CHARACTERS,
)
from shared.protocol.scopes import covers
from shared.protocol.signing import decode_public_key, device_id_of, encode_base64

if TYPE_CHECKING:
    from services.approval.domain.pairing import IdFactory
    from services.approval.domain.tokens import TokenKeys

TOKEN_ACCEPTED_MS: Final = 30 * 86_400_000
"""How long after an import a device may return with the token that it had before."""
ROLES_LIMIT: Final = 2

Moment = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Milliseconds since 1970.")]
Text = Annotated[str, Meta(max_length=TEXT_LIMIT_CHARACTERS)]
Scope = Annotated[str, Meta(min_length=1, max_length=SCOPE_LIMIT_CHARACTERS)]
Scopes = Annotated[tuple[Scope, ...], Meta(max_length=SCOPES_HELD_LIMIT_ITEMS)]
ApprovedVia = Literal[
    "owner", "silent", "trusted-cidr", "trusted-proxy", "ssh-verified", "bootstrap"
]


class ImportToken(
    msgspec.Struct,
    rename="camel",
    omit_defaults=True,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
):
    """A role's token: its scopes and, if the device may return with it once, the token itself."""

    role: Role
    scopes: Scopes
    created_at_ms: Moment
    rotated_at_ms: Moment = 0
    revoked_at_ms: Moment = 0
    token: Annotated[
        Text, Meta(description="Only a keyed digest of it is stored, until the device returns.")
    ] = ""


class ImportDevice(
    msgspec.Struct,
    rename="camel",
    omit_defaults=True,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
):
    """A device as the other system has paired it."""

    device_id: Text
    public_key: Annotated[str, Meta(max_length=PUBLIC_KEY_LIMIT_CHARACTERS)]
    display_name: Annotated[str, Meta(max_length=DISPLAY_NAME_LIMIT_CHARACTERS)] = ""
    operator_label: Annotated[str, Meta(max_length=LABEL_LIMIT_CHARACTERS)] = ""
    client_id: Text = ""
    client_mode: Text = ""
    platform: Text = ""
    device_family: Text = ""
    address: Text = ""
    role: Role
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=ROLES_LIMIT)]
    scopes: Scopes
    tokens: Annotated[tuple[ImportToken, ...], Meta(max_length=ROLES_LIMIT)] = ()
    created_at_ms: Moment
    approved_at_ms: Moment
    approved_via: ApprovedVia = "owner"


Outcome = Literal["added", "exists", "differs", "refused"]
ReturnsWith = Annotated[
    Literal["its-token", "gateway-token", "approval"],
    Meta(
        description=(
            "What an added device needs to be admitted: the token it has, the gateway token, or "
            "another approval, because none of its roles has a token."
        )
    ),
]


class ImportedDevice(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """What happens to a device.

    `added`: it is paired now. `exists`: it was paired already. `differs`: it was paired already,
    with fewer roles or scopes than the import grants; that pairing is unchanged. `refused`: `why`.
    """

    device_id: str
    outcome: Outcome
    why: str = ""
    grants_admin: bool = False
    returns_with: ReturnsWith | UnsetType = UNSET


class ImportedPart(msgspec.Struct, frozen=True):
    """What happened to each device of a part, in its order; in a dry run, what would happen."""

    devices: list[ImportedDevice]


def problem_of(device: ImportDevice) -> str:
    """Return why a device cannot be imported; empty if it can."""
    key = decode_public_key(device.public_key)
    if key is None or encode_base64(key) != device.public_key:
        return "its public key is invalid"
    if device_id_of(key) != device.device_id:
        return "its id does not match its key"
    return _problem_of_rights(device)


def _problem_of_rights(device: ImportDevice) -> str:
    held = [token.role for token in device.tokens]
    if len(set(held)) < len(held) or len(set(device.roles)) < len(device.roles):
        return "it has a role twice"
    if not {device.role, *held} <= set(device.roles):
        return "it has a role that was not approved"
    prefixes = tuple(f"{role}." for role in device.roles)
    for scope in device.scopes:
        if scope != scope.strip() or not scope.startswith(prefixes):
            return f"its scope {scope} belongs to none of its roles"
    return ""


def pairing_of(device: ImportDevice, *, now_ms: int, keys: TokenKeys, draws: IdFactory) -> Pairing:
    """Return the pairing of a device.

    Its times are not later than now, and its tokens have no scopes beyond those approved.
    """
    created_at_ms = min(device.created_at_ms, now_ms)
    return Pairing(
        metadata=Metadata(
            client_id=device.client_id,
            client_mode=device.client_mode,
            platform=device.platform,
            device_family=device.device_family,
            display_name=device.display_name,
            address=_address(device.address),
        ),
        role=device.role,
        roles=device.roles,
        scopes=tuple(dict.fromkeys(device.scopes)),
        tokens={
            one.role: _token(device, one, now_ms=now_ms, keys=keys, draws=draws)
            for one in device.tokens
        },
        created_at_ms=created_at_ms,
        approved_at_ms=max(created_at_ms, min(device.approved_at_ms, now_ms)),
        approved_via=device.approved_via,
        operator_label=device.operator_label.strip(),
    )


def returns_with(pairing: Pairing) -> ReturnsWith:
    """Return what a device needs to be admitted in every role that it may use."""
    tokens = [pairing.tokens[role] for role in pairing.effective_roles]
    if not tokens:
        return "approval"
    return "its-token" if all(token.imported for token in tokens) else "gateway-token"


def _token(
    device: ImportDevice, token: ImportToken, *, now_ms: int, keys: TokenKeys, draws: IdFactory
) -> Token:
    # OpenClaw 2026.3 issues tokens for nodes with the scopes of the operator's role.
    scopes = tuple(sorted({one for one in token.scopes if covers(device.scopes, one, token.role)}))
    created_at_ms, rotated_at_ms = (
        min(at, now_ms) for at in (token.created_at_ms, token.rotated_at_ms)
    )
    if token.revoked_at_ms:
        revoked_at_ms = max(1, min(token.revoked_at_ms, now_ms))
        return Token("", scopes, created_at_ms, rotated_at_ms, revoked_at_ms)
    is_known = bool(token.token)
    return Token(
        token_id=draws.token_id(),
        scopes=scopes,
        created_at_ms=created_at_ms,
        rotated_at_ms=now_ms,
        token_generation=draws.token_generation(),
        imported=keys.imported_digest(token.token, device.device_id, token.role)
        if is_known
        else "",
        imported_until_ms=now_ms + TOKEN_ACCEPTED_MS if is_known else 0,
    )


def _address(text: str) -> str:
    """Return an address, without one of this machine; a text that is none is dropped."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return "" if found.is_loopback else str(found)
