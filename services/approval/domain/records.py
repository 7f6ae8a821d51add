"""What is kept of a device (design §5). Pure values, encoded as msgpack maps."""

from __future__ import annotations

from typing import Final

import msgspec

VERSION_CHARACTERS: Final = 16
"""A stored record begins with a random version of so many hex digits."""
PAIRED_BY_OWNER: Final = "owner"
PAIRED_SILENTLY: Final = "silent"
"""By the rule for trusted clients of the gateway's own machine, without a person."""


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device token of one role: its id and what it allows, never the token itself.

    `epoch` outlives a token that is replaced on the way in; a rotation or revocation ends it.
    """

    token_id: str
    scopes: tuple[str, ...]
    created_at_ms: int
    rotated_at_ms: int = 0
    revoked_at_ms: int = 0
    epoch: str = ""

    @property
    def active(self) -> bool:
        """Whether it was not revoked."""
        return not self.revoked_at_ms

    @property
    def issued_at_ms(self) -> int:
        """When this token id was drawn."""
        return self.rotated_at_ms or self.created_at_ms


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a device said about itself; platform and family stand as sent."""

    client_id: str
    client_mode: str
    platform: str
    device_family: str = ""
    display_name: str = ""
    address: str = ""
    """Where it came from; empty for this machine."""


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a device says that it is when one of its clients connects in a role."""

    role: str
    client_id: str
    client_mode: str
    platform: str
    device_family: str = ""
    display_name: str = ""


class Pending(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that waits for a person. Its id never comes to stand for more than it did."""

    request_id: str
    reason: str
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    metadata: Metadata
    limit_key: str
    """What the per-address limit counts it by."""
    created_at_ms: int
    refreshed_at_ms: int
    others: tuple[Identity, ...] = ()
    """Under what else the device asked, newest first: approved together with `metadata`."""

    @property
    def identities(self) -> tuple[Identity, ...]:
        """All that it stands for, newest first; none is added to it under the same id."""
        return (_identity(self.role, self.metadata), *self.others)

    def expired(self, now_ms: int, ttl_ms: int) -> bool:
        """Whether nobody has asked again for so long that it is void."""
        return now_ms >= self.refreshed_at_ms + ttl_ms


class Pairing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person approved."""

    metadata: Metadata
    role: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    """Approved ones, in first-seen order, not expanded."""
    tokens: dict[str, Token]
    """By role."""
    created_at_ms: int
    approved_at_ms: int
    approved_via: str = PAIRED_BY_OWNER
    operator_label: str = ""
    others: tuple[Identity, ...] = ()
    """Identities that were approved beside `metadata`, newest first."""

    @property
    def identities(self) -> tuple[Identity, ...]:
        """All identities that were approved, newest first."""
        return (_identity(self.role, self.metadata), *self.others)

    @property
    def effective_roles(self) -> tuple[str, ...]:
        """Approved roles that hold a token which was not revoked."""
        return tuple(role for role in self.roles if self.holds(role))

    def holds(self, role: str) -> bool:
        """Say whether a role is approved and its token was not revoked."""
        token = self.tokens.get(role)
        return token is not None and token.active and role in self.roles


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One device: who it is, what was approved, and at most one request."""

    device_id: str
    public_key: str
    pairing: Pairing | None = None
    pending: Pending | None = None


class Sighting(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a device was last let in, why that counts, from where; `used`: its tokens, by role."""

    at: int
    why: str
    address: str = ""
    used: dict[str, int] = {}
    name: str = ""
    """What it called itself last, at `named_at`; empty if it never gave a name."""
    named_at: int = 0
    platforms: dict[str, str] = {}
    """By client id of a native app, its platform with the version of the operating system."""
    versioned_at: int = 0


class RequestNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a request id; kept for a day after its end.

    `state`: pending, approved, rejected, superseded, expired or displaced (by newer requests from
    the same address). `successor` is the request that superseded it.
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


def _identity(role: str, about: Metadata) -> Identity:
    return Identity(
        role,
        about.client_id,
        about.client_mode,
        about.platform,
        about.device_family,
        about.display_name,
    )


_encode: Final = msgspec.msgpack.Encoder().encode
decode_record: Final = msgspec.msgpack.Decoder(Record).decode
decode_note: Final = msgspec.msgpack.Decoder(RequestNote).decode


def encode(value: Record | RequestNote) -> bytes:
    """Encode for the store."""
    return _encode(value)
