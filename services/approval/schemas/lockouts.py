"""The JSON objects about lock-outs: camelCase. No secret is in one, nor what was guessed."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.approval.domain.lockout import Lockout

Credential = Literal["shared-secret", "device-token", "bootstrap-token", "admin-token"]
"""Which kind of secret: `shared-secret` is the gateway token, `bootstrap-token` a setup code."""
LockedAddress = Annotated[str, Meta(pattern=r"^[0-9A-Za-z:.]{1,45}$")]
_Milliseconds = Annotated[int, Meta(ge=0, description="Milliseconds since 1970.")]


class LockoutObject(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """An address that is locked out for one kind of secret: right and wrong ones are refused."""

    credential: Credential
    address: Annotated[
        str, Meta(description="Goes into the path that lifts it; `unknown` where none was known.")
    ]
    network: (
        Annotated[str, Meta(description="The IPv6 network that it concerns as a whole.")]
        | UnsetType
    ) = UNSET
    failures: Annotated[int, Meta(ge=0, description="Distinct wrong values that led to it.")]
    since_ms: _Milliseconds
    until_ms: _Milliseconds


class Lockouts(msgspec.Struct, frozen=True):
    """The lock-outs that run, those that end last first; at most 1000."""

    lockouts: list[LockoutObject]


class LiftedLockout(msgspec.Struct, frozen=True):
    """The lock-out is lifted at every replica, and counting begins anew."""

    lifted: LockoutObject


def lockout_object(lockout: Lockout) -> LockoutObject:
    """Return a lock-out as it is shown."""
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
    """Return all lock-outs as they are listed."""
    return Lockouts([lockout_object(one) for one in lockouts])
