"""JSON objects about sessions of the operators' page. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.permissions import PermissionName  # noqa: TC001 (msgspec reads it)
from services.approval.domain.records import Milliseconds  # noqa: TC001 (msgspec reads it)

SignedInBy = Literal["token", "session", "proxy"]


class OpenSession(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """The caller is authenticated as an operator, by a token or a session of the page.

    `gatewayUrl`: where devices connect (GATEWAY_PUBLIC_URL).
    """

    operator: str
    permission: PermissionName
    signed_in_by: Annotated[
        SignedInBy,
        Meta(description="`proxy`: by the headers of an identity-aware proxy, for each call."),
    ]
    expires_at_ms: (
        Annotated[Milliseconds, Meta(description="End of the session; absent without one.")]
        | UnsetType
    ) = UNSET
    gateway_url: str | UnsetType = UNSET


class EndedSession(msgspec.Struct, frozen=True):
    """Whether there was a session; it has ended at every replica."""

    ended: bool
