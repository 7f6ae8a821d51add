"""The rules: (record, event, now) → (verdict, new record). Pure (contract §7, §8).

Nothing here reads a clock or draws a random id: both come as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from services.approval.records import Metadata, Pairing, Pending, Record, Token
from shared.addresses import is_loopback, limit_key
from shared.protocol.scopes import covers_all, normalised, union
from shared.protocol.signing import normalised_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.approval.tokens import TokenKeys
    from shared.messages import Admission

REFRESH_LEAST_MS: Final = 10_000
"""A pending request is refreshed at most this often, so that a retry storm writes nothing."""

_DEVICE_TOKEN_METHOD: Final = "device-token"  # noqa: S105 (the name of a method)


@dataclass(frozen=True, slots=True)
class Draws:
    """Where new ids come from."""

    request_id: Callable[[], str]
    token_id: Callable[[], str]
    epoch: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Admit:
    """The device comes in with this token; `changed` holds the record to commit, if any."""

    token: Token
    changed: Record | None
    kind: str
    """What the change is called in the audit log."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A person has to decide; `changed` holds the record to commit, if any.

    `superseded` is the request that the new one replaces. A refresh has no `kind`: it is no change.
    """

    reason: str
    pending: Pending
    pairing: Pairing | None
    changed: Record | None
    kind: str
    superseded: str


@dataclass(frozen=True, slots=True)
class Deny:
    """No: `device-token-mismatch`, `scope-mismatch` or `key-mismatch`."""

    why: str


Verdict = Admit | Ask | Deny


def judge(
    record: Record | None,
    question: Admission,
    *,
    now_ms: int,
    ttl_ms: int,
    keys: TokenKeys,
    draws: Draws,
) -> Verdict:
    """Decide whether a device whose key is proven may come in."""
    if record is not None and record.public_key != question.public_key:
        return Deny("key-mismatch")
    pairing = record.pairing if record else None
    if question.method == _DEVICE_TOKEN_METHOD:
        why = _token_problem(pairing, question, keys)
        if why is not None:
            return Deny(why)
    reason = _pairing_problem(pairing, question)
    if reason is not None:
        return _ask(record, pairing, question, reason, now_ms=now_ms, ttl_ms=ttl_ms, draws=draws)
    if record is None or pairing is None:
        message = "admitted without a pairing"
        raise AssertionError(message)
    return _admit(record, pairing, question, now_ms, draws)


def _token_problem(pairing: Pairing | None, question: Admission, keys: TokenKeys) -> str | None:
    token = pairing.tokens.get(question.role) if pairing else None
    if pairing is None or token is None or not token.active:
        return "device-token-mismatch"
    if not keys.verify(question.candidate, question.device_id, question.role, token.token_id):
        return "device-token-mismatch"
    if not covers_all(pairing.scopes, token.scopes, question.role):
        return "device-token-mismatch"
    if not covers_all(token.scopes, question.scopes, question.role):
        return "scope-mismatch"
    return None


def _pairing_problem(pairing: Pairing | None, question: Admission) -> str | None:
    """Return why a person has to decide, in the order of contract §7.1."""
    if pairing is None:
        return "not-paired"
    known = pairing.metadata
    if _differs(known.platform, question.client.platform) or _differs(
        known.device_family, question.client.device_family
    ):
        return "metadata-upgrade"
    if question.role not in pairing.effective_roles:
        return "role-upgrade"
    if not covers_all(pairing.scopes, question.scopes, question.role):
        return "scope-upgrade"
    return None


def _differs(stored: str, claimed: str) -> bool:
    return bool(stored) and normalised_metadata(stored) != normalised_metadata(claimed)


def _admit(
    record: Record, pairing: Pairing, question: Admission, now_ms: int, draws: Draws
) -> Admit:
    token = pairing.tokens[question.role]
    kind = ""
    if not covers_all(token.scopes, question.scopes, question.role):
        token = replace(
            token,
            token_id=draws.token_id(),
            scopes=tuple(normalised(question.scopes)),
            rotated_at_ms=now_ms,
        )
        pairing = replace(pairing, tokens={**pairing.tokens, question.role: token})
        kind = "token-issued"
    name = question.client.display_name
    if name and name != pairing.metadata.display_name:
        pairing = replace(pairing, metadata=replace(pairing.metadata, display_name=name))
        kind = kind or "name-changed"
    return Admit(token, replace(record, pairing=pairing) if kind else None, kind)


def _ask(
    record: Record | None,
    pairing: Pairing | None,
    question: Admission,
    reason: str,
    *,
    now_ms: int,
    ttl_ms: int,
    draws: Draws,
) -> Ask:
    waiting = record.pending if record else None
    if waiting is not None and waiting.expired(now_ms, ttl_ms):
        waiting = None
    if waiting is not None and _within(question, waiting):
        return _refreshed(record, waiting, question, reason, pairing=pairing, now_ms=now_ms)
    pending = Pending(
        request_id=draws.request_id(),
        reason=reason,
        role=question.role,
        roles=tuple(union(waiting.roles if waiting else (), (question.role,))),
        scopes=tuple(union(waiting.scopes if waiting else (), question.scopes)),
        metadata=_metadata(question),
        limit_key=limit_key(question.address),
        created_at_ms=now_ms,
        refreshed_at_ms=now_ms,
    )
    changed = Record(question.device_id, question.public_key, pairing, pending)
    superseded = waiting.request_id if waiting else ""
    return Ask(reason, pending, pairing, changed, "requested", superseded)


def _within(question: Admission, waiting: Pending) -> bool:
    """Say whether a question asks for no more than the request that waits already."""
    return question.role == waiting.role and (
        set(question.scopes) <= set(waiting.scopes)
        or covers_all(waiting.scopes, question.scopes, question.role)
    )


def _refreshed(
    record: Record | None,
    waiting: Pending,
    question: Admission,
    reason: str,
    *,
    pairing: Pairing | None,
    now_ms: int,
) -> Ask:
    if record is None or now_ms < waiting.refreshed_at_ms + REFRESH_LEAST_MS:
        return Ask(reason, waiting, pairing, None, "", "")
    pending = replace(waiting, metadata=_metadata(question), reason=reason, refreshed_at_ms=now_ms)
    return Ask(reason, pending, pairing, replace(record, pending=pending), "", "")


def _metadata(question: Admission) -> Metadata:
    client = question.client
    return Metadata(
        client_id=client.id,
        client_mode=client.mode,
        platform=client.platform,
        device_family=client.device_family,
        display_name=client.display_name,
        address="" if is_loopback(question.address) else question.address,
    )


def scope_outside_roles(pending: Pending) -> str | None:
    """Return the first requested scope that belongs to none of the requested roles, or None.

    One with blanks around it belongs to none: tokens keep scopes trimmed, and it would not match.
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
    """Return the operator scopes that whoever approves has to hold (contract §7.4).

    They are those that the approval lets the device use: the ones it asks for and, unless it may
    use them already, all that were approved for it before. A role that was revoked, or a device
    that changed, comes back with everything it had.
    """
    if "operator" not in pending.roles:
        return []
    asked = _of_operator(pending.scopes)
    before = record.pairing
    if before is None:
        return asked
    changed = _differs(before.metadata.platform, pending.metadata.platform) or _differs(
        before.metadata.device_family, pending.metadata.device_family
    )
    if asked and not changed and "operator" in before.effective_roles:
        return asked
    return union(asked, _of_operator(before.scopes))


def _of_operator(scopes: Iterable[str]) -> list[str]:
    return [scope for scope in scopes if scope.startswith("operator.")]


def approved(record: Record, pending: Pending, *, now_ms: int, draws: Draws) -> Record:
    """Return the record after a person approved its pending request (contract §7.4)."""
    before = record.pairing
    tokens = dict(before.tokens) if before else {}
    for role in pending.roles:
        tokens[role] = _minted(before, pending, role, now_ms, draws)
    pairing = Pairing(
        metadata=pending.metadata,
        role=pending.role,
        roles=tuple(union(before.roles if before else (), pending.roles)),
        scopes=tuple(union(before.scopes if before else (), pending.scopes)),
        tokens=tokens,
        created_at_ms=before.created_at_ms if before else now_ms,
        approved_at_ms=now_ms,
        operator_label=before.operator_label if before else "",
    )
    return Record(record.device_id, record.public_key, pairing, None)


def _minted(
    before: Pairing | None, pending: Pending, role: str, now_ms: int, draws: Draws
) -> Token:
    asked = [scope for scope in pending.scopes if scope.startswith(f"{role}.")]
    existing = before.tokens.get(role) if before else None
    known = before.scopes if before else ()
    if existing is not None:
        newly = [scope for scope in asked if scope not in known]
        scopes = normalised(union(existing.scopes, newly))
    else:
        inherited = [scope for scope in known if scope.startswith(f"{role}.")]
        scopes = normalised(asked or inherited)
    return Token(
        token_id=draws.token_id(),
        scopes=tuple(scopes),
        created_at_ms=existing.created_at_ms if existing else now_ms,
        rotated_at_ms=now_ms if existing else 0,
        epoch=existing.epoch if existing and existing.active else draws.epoch(),
    )


def without_pending(record: Record) -> Record | None:
    """Return the record without its request; None when nothing is left to keep."""
    return replace(record, pending=None) if record.pairing else None


def renamed(record: Record, pairing: Pairing, label: str) -> Record:
    """Return the record under a new operator's label."""
    return replace(record, pairing=replace(pairing, operator_label=label))


def rotated(
    record: Record,
    pairing: Pairing,
    role: str,
    scopes: Iterable[str] | None,
    *,
    now_ms: int,
    draws: Draws,
) -> Record:
    """Return the record with a new token for a role; `scopes` replace its scopes when given."""
    token = pairing.tokens[role]
    token = replace(
        token,
        token_id=draws.token_id(),
        scopes=token.scopes if scopes is None else tuple(normalised(scopes)),
        rotated_at_ms=now_ms,
        epoch=draws.epoch(),
    )
    return replace(record, pairing=replace(pairing, tokens={**pairing.tokens, role: token}))


def revoked(record: Record, pairing: Pairing, role: str, *, now_ms: int) -> Record:
    """Return the record with a role's token revoked; its id is dropped, so it never comes back."""
    token = replace(pairing.tokens[role], token_id="", revoked_at_ms=now_ms, epoch="")
    return replace(record, pairing=replace(pairing, tokens={**pairing.tokens, role: token}))
