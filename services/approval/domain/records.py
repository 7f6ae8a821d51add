"""What is stored of devices and of the changes to them: pure values and their field types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from services.approval.domain.errors import RequestOver, UnknownRole

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION_CHARACTERS: Final = 16
"""A stored record begins with a random version of this many hex digits."""
PAIRED_BY_OWNER: Final = "owner"
PAIRED_BY_CODE: Final = "bootstrap"
"""Approved automatically, by a setup code that an operator had created."""
PAIRED_SILENTLY: Final = "silent"
"""Approved automatically, by the rule for trusted clients on the gateway's own machine."""

RequestId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
DeviceId = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Milliseconds = Annotated[int, Meta(ge=0, description="Milliseconds since 1970.")]
Count = Annotated[int, Meta(ge=0)]
ChangeNumber = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device token for one role: its id and scopes, never the token itself.

    `token_generation` survives the reissue of a token during admission; rotation and revocation end
    it.
    """

    token_id: str
    scopes: tuple[str, ...]
    created_at_ms: int
    rotated_at_ms: int = 0
    revoked_at_ms: int = 0
    token_generation: str = msgspec.field(default="", name="epoch")
    imported: str = ""
    """Keyed digest of the token that the device had before it was imported, accepted once."""
    imported_until_ms: int = 0
    exchanged_by: str = ""
    """Call id of the connect that presented that token: a retry of it is admitted, too."""

    @property
    def active(self) -> bool:
        """Whether the token is not revoked."""
        return not self.revoked_at_ms

    @property
    def issued_at_ms(self) -> int:
        """When this token id was generated."""
        return self.rotated_at_ms or self.created_at_ms


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device's description of itself; platform and family are stored as sent."""

    client_id: str
    client_mode: str
    platform: str
    device_family: str = ""
    display_name: str = ""
    address: str = ""
    """Client address; empty for loopback."""


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """The identity a device claims when one of its clients connects in a role."""

    role: str
    client_id: str
    client_mode: str
    platform: str
    device_family: str = ""
    display_name: str = ""


class Pending(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that waits for a person. Anything added to it gives it a new id."""

    request_id: str
    reason: str
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    metadata: Metadata
    limit_key: str
    """Key under which the per-address limit counts the request."""
    created_at_ms: int
    refreshed_at_ms: int
    others: tuple[Identity, ...] = ()
    """Further identities of the device, newest first; approved together with `metadata`."""
    setup_ids: tuple[str, ...] = ()
    """Setup codes that the device presented; rejecting the request revokes them."""

    def expired(self, now_ms: int, ttl_ms: int) -> bool:
        """Return whether the request has not been refreshed within its TTL."""
        return now_ms >= self.refreshed_at_ms + ttl_ms


class Pairing(msgspec.Struct, frozen=True, omit_defaults=True):
    """The approved state of a device."""

    metadata: Metadata
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    """Approved scopes in the order first seen; implied scopes are not listed."""
    tokens: dict[str, Token]
    """By role."""
    created_at_ms: int
    approved_at_ms: int
    approved_via: str = PAIRED_BY_OWNER
    operator_label: str = ""
    others: tuple[Identity, ...] = ()
    """Further approved identities, newest first."""

    @property
    def effective_roles(self) -> tuple[str, ...]:
        """Approved roles that hold an active token."""
        return tuple(role for role in self.roles if self.holds(role))

    def holds(self, role: str) -> bool:
        """Return whether a role is approved and holds an active token."""
        token = self.tokens.get(role)
        return token is not None and token.active and role in self.roles


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One device: its id and key, its approved state, and at most one request."""

    device_id: str
    public_key: str
    pairing: Pairing | None = None
    pending: Pending | None = None


class VersionedRecord(msgspec.Struct, frozen=True):
    """A device's record with the version that was read; both are empty if there is none.

    `unreadable`: the record exists but cannot be decoded.
    """

    version: str | bytes
    record: Record | None
    unreadable: bool = False


NOT_HELD: Final = VersionedRecord("", None)
"""No record."""


class LastSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device's last admission: when, why, from where. `used`: last use of its tokens, by role."""

    at: int
    why: str
    address: str = ""
    used: dict[str, int] = {}
    name: str = ""
    """Display name last sent, at `named_at`; empty if none was ever sent."""
    named_at: int = 0
    platforms: dict[str, str] = {}
    """Platform with operating system version, by client id of the native app."""
    versioned_at: int = 0


class RequestNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """State of a request id, kept for a day after the request ends.

    `state`: pending, approved, rejected, superseded, expired or displaced (by a newer
    request, see `holders`). `successor` is the request that superseded it.
    """

    device_id: str
    state: str
    at_ms: int
    successor: str = ""


PENDING: Final = "pending"
APPROVED: Final = "approved"
REJECTED: Final = "rejected"
SUPERSEDED: Final = "superseded"
EXPIRED: Final = "expired"
DISPLACED: Final = "displaced"


encode: Final[Callable[[Record | RequestNote], bytes]] = msgspec.msgpack.Encoder().encode
"""Encode a value for the store."""
decode_record: Final = msgspec.msgpack.Decoder(Record).decode
decode_note: Final = msgspec.msgpack.Decoder(RequestNote).decode


def holds_request(record: Record | None, request_id: str) -> bool:
    """Return whether this is the device's request."""
    pending = record.pending if record else None
    return pending is not None and pending.request_id == request_id


def open_request(
    request_id: str, note: RequestNote, record: Record | None, *, now_ms: int, ttl_ms: int
) -> tuple[Record, Pending]:
    """Return the record and its request if that is still pending; else raise RequestOver."""
    pending = record.pending if record else None
    if note.state != PENDING or record is None or pending is None:
        raise RequestOver(note.state if note.state != PENDING else EXPIRED, note.successor)
    if pending.request_id != request_id:
        raise RequestOver(SUPERSEDED, pending.request_id)
    if pending.expired(now_ms, ttl_ms):
        raise RequestOver(EXPIRED)
    return record, pending


def active_token(pairing: Pairing, role: str) -> Token:
    """Return the token of a role; raises UnknownRole if there is none that is active."""
    token = pairing.tokens.get(role)
    if token is None or not token.active:
        raise UnknownRole
    return token


class AuditEntry(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Who did what, and when. `id` is the change number; reading continues after it."""

    action: str
    device_id: str
    actor: str
    at_ms: int
    request_id: str = ""
    superseded_request_id: str = ""
    role: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    label: str = ""
    address: str = ""
    credential: str = ""
    id: int = 0
    permission: str = ""
    """That an operator was given."""
    name: str = ""
    """What the device was called at that time."""
    setup_id: str = ""
    access: str = ""
    """What a setup code grants: `full`, `limited` or `node`."""
    reason: str = ""
    """Why a setup code was refused; or what its use was: `new`, `upgraded` or `again`."""
