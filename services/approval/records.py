"""What is kept of a device (design §5). Pure values, encoded as msgpack maps."""

from __future__ import annotations

from typing import Final

import msgspec

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

_encode: Final = msgspec.msgpack.Encoder().encode
decode_record: Final = msgspec.msgpack.Decoder(Record).decode
decode_note: Final = msgspec.msgpack.Decoder(RequestNote).decode


def encode(value: Record | RequestNote) -> bytes:
    """Encode for the store."""
    return _encode(value)
