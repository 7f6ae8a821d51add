"""Approval, rotation and revocation as functions on pairings. Pure.

Times and random ids are passed as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from services.approval.domain.identities import identities_of, is_approved, merged
from services.approval.domain.records import (
    PAIRED_BY_CODE,
    PAIRED_BY_OWNER,
    Pairing,
    Pending,
    Record,
    Token,
)
from services.approval.domain.rules import Claim
from shared.protocol.scopes import normalised, union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True, slots=True)
class IdFactory:
    """Sources of new random ids."""

    request_id: Callable[[], str]
    token_id: Callable[[], str]
    token_generation: Callable[[], str]


def scope_outside_roles(pending: Pending) -> str | None:
    """Return the first requested scope that belongs to none of the requested roles, or None.

    A scope with surrounding blanks belongs to none, because tokens hold trimmed scopes and it
    would not match.
    """
    prefixes = tuple(f"{role}." for role in pending.roles)
    return next(
        (
            scope
            for scope in pending.scopes
            if scope != scope.strip() or not scope.startswith(prefixes)
        ),
        None,
    )


def scopes_to_hold(record: Record, pending: Pending) -> list[str]:
    """Return the operator scopes that the approver has to hold.

    These are all scopes that the approval enables: the requested ones and, unless the device can
    use them already, all that were approved before. Approving a revoked role or a changed device
    restores all of its earlier scopes.
    """
    if "operator" not in pending.roles:
        return []
    asked = _of_operator(pending.scopes)
    before = record.pairing
    if before is None:
        return asked
    changed = not all(is_approved(before, one) for one in identities_of(pending))
    if asked and not changed and "operator" in before.effective_roles:
        return asked
    return union(asked, _of_operator(before.scopes))


def _of_operator(scopes: Iterable[str]) -> list[str]:
    return [scope for scope in scopes if scope.startswith("operator.")]


def approved(
    before: Pairing | None,
    pending: Pending,
    *,
    now_ms: int,
    draws: IdFactory,
    via: str = PAIRED_BY_OWNER,
) -> Pairing:
    """Return the pairing after a request is approved; `via` says by whom."""
    tokens = dict(before.tokens) if before else {}
    for role in pending.roles:
        tokens[role] = _minted(before, pending, role, now_ms, draws)
    return Pairing(
        metadata=pending.metadata,
        role=pending.role,
        roles=tuple(union(before.roles if before else (), pending.roles)),
        scopes=tuple(union(before.scopes if before else (), pending.scopes)),
        tokens=tokens,
        created_at_ms=before.created_at_ms if before else now_ms,
        approved_at_ms=now_ms,
        approved_via=via,
        operator_label=before.operator_label if before else "",
        others=merged(pending, before)[1:],
    )


def _minted(
    before: Pairing | None, pending: Pending, role: str, now_ms: int, draws: IdFactory
) -> Token:
    existing = before.tokens.get(role) if before else None
    return Token(
        token_id=draws.token_id(),
        scopes=tuple(token_scopes(before, pending, role)),
        created_at_ms=existing.created_at_ms if existing else now_ms,
        rotated_at_ms=now_ms if existing else 0,
        token_generation=existing.token_generation
        if existing and existing.active
        else draws.token_generation(),
    )


def token_scopes(before: Pairing | None, pending: Pending, role: str) -> list[str]:
    """Return the scopes of a role's token after a request is approved."""
    asked = [scope for scope in pending.scopes if scope.startswith(f"{role}.")]
    existing = before.tokens.get(role) if before else None
    known = before.scopes if before else ()
    if existing is not None:
        newly = [scope for scope in asked if scope not in known]
        return normalised(union(existing.scopes, newly))
    inherited = [scope for scope in known if scope.startswith(f"{role}.")]
    return normalised(asked or inherited)


def claim_of(
    before: Pairing | None, pending: Pending, device_id: str, *, reason: str, address: str
) -> Claim:
    """Return what approving a request means, for approval rules.

    Scopes outside the requested roles are included, so that no rule covers them.
    """
    tokens = before.tokens if before else {}
    held = {
        scope
        for role in pending.roles
        if (one := tokens.get(role)) and one.active
        for scope in one.scopes
    }
    after = union(*(token_scopes(before, pending, role) for role in pending.roles), pending.scopes)
    return Claim(
        reason=reason,
        device_id=device_id,
        address=address,
        roles=pending.roles,
        enables=tuple(scope for scope in after if scope not in held),
        revoked=any((one := tokens.get(role)) and not one.active for role in pending.roles),
    )


def redeemed(before: Pairing | None, pending: Pending, *, now_ms: int, draws: IdFactory) -> Pairing:
    """Return the pairing after a setup code approved exactly this request.

    All tokens of its roles are new, and their sockets end. Scopes that an active token holds are
    kept; those of a revoked one do not come back.
    """
    tokens = dict(before.tokens) if before else {}
    for role in pending.roles:
        asked = [scope for scope in pending.scopes if scope.startswith(f"{role}.")]
        existing = tokens.get(role)
        kept = existing.scopes if existing and existing.active else ()
        tokens[role] = Token(
            token_id=draws.token_id(),
            scopes=tuple(normalised(union(kept, asked))),
            created_at_ms=existing.created_at_ms if existing else now_ms,
            rotated_at_ms=now_ms if existing else 0,
            token_generation=draws.token_generation(),
        )
    owned = before is not None and before.approved_via == PAIRED_BY_OWNER
    return Pairing(
        metadata=pending.metadata,
        role=pending.role,
        roles=tuple(union(before.roles if before else (), pending.roles)),
        scopes=tuple(union(before.scopes if before else (), pending.scopes)),
        tokens=tokens,
        created_at_ms=before.created_at_ms if before else now_ms,
        approved_at_ms=now_ms,
        approved_via=PAIRED_BY_OWNER if owned else PAIRED_BY_CODE,
        operator_label=before.operator_label if before else "",
        others=merged(pending, before)[1:],
    )


def without_pending(record: Record) -> Record | None:
    """Return the record without its request; None if nothing else is left."""
    return replace(record, pending=None) if record.pairing else None


def rotated(
    pairing: Pairing,
    role: str,
    scopes: Iterable[str] | None,
    *,
    now_ms: int,
    draws: IdFactory,
) -> Pairing:
    """Return the pairing with a new token for a role; `scopes`, if given, replace its scopes."""
    token = pairing.tokens[role]
    token = replace(
        token,
        token_id=draws.token_id(),
        scopes=token.scopes if scopes is None else tuple(normalised(scopes)),
        rotated_at_ms=now_ms,
        token_generation=draws.token_generation(),
        imported="",
        imported_until_ms=0,
        exchanged_by="",
    )
    return replace(pairing, tokens={**pairing.tokens, role: token})


def revoked(pairing: Pairing, role: str, *, now_ms: int) -> Pairing:
    """Return the pairing with a role's token revoked and its id dropped for good."""
    token = replace(
        pairing.tokens[role],
        token_id="",
        revoked_at_ms=now_ms,
        token_generation="",
        imported="",
        imported_until_ms=0,
        exchanged_by="",
    )
    return replace(pairing, tokens={**pairing.tokens, role: token})
