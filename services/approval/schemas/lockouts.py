"""JSON objects about lock-outs. They contain neither secrets nor guessed values."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.approval.domain.lockout import Lockout

Credential = Literal[
    "shared-secret", "device-token", "bootstrap-token", "device-join", "admin-token"
]
"""Credential class: `shared-secret` is the gateway token, `bootstrap-token` a setup code, and
`device-join` the short code in a join URL."""
LockedAddress = Annotated[str, Meta(pattern=r"^[0-9A-Za-z:.]{1,45}$")]
_Milliseconds = Annotated[int, Meta(ge=0, description="Milliseconds since 1970.")]


class LockoutObject(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """An address locked out for one credential class: correct secrets are refused as well."""

    credential: Credential
    address: Annotated[
        str, Meta(description="For the path that lifts it; `unknown` if the address is not known.")
    ]
    network: (
        Annotated[str, Meta(description="IPv6 network that is locked out as a whole.")] | UnsetType
    ) = UNSET
    failures: Annotated[int, Meta(ge=0, description="Distinct wrong values that triggered it.")]
    since_ms: _Milliseconds
    until_ms: _Milliseconds


class Lockouts(msgspec.Struct, frozen=True):
    """Active lock-outs, those that end last first; at most 1000."""

    lockouts: list[LockoutObject]


class LiftedLockout(msgspec.Struct, frozen=True):
    """The lock-out is lifted at every replica, and counting restarts."""

    lifted: LockoutObject


def lockout_object(lockout: Lockout) -> LockoutObject:
    """Return the JSON object of a lock-out."""
    network = "/" in lockout.address
    return LockoutObject(
        credential=cast("Credential", lockout.credential),
        address=str(ip_network(lockout.address).network_address) if network else lockout.address,
        network=lockout.address if network else UNSET,
        failures=lockout.failures,
        since_ms=lockout.since_ms,
        until_ms=lockout.until_ms,
    )


def lockouts_object(lockouts: Iterable[Lockout]) -> Lockouts:
    """Return the JSON object of a list of lock-outs."""
    return Lockouts([lockout_object(one) for one in lockouts])
