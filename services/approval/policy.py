"""The rules: (record, event, now) → (verdict, new record). Pure (contract §7, §8).

Nothing here reads a clock or draws a random id: both come as arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from services.approval import trusted
from services.approval.grants import approved, differs
from services.approval.records import (
    PAIRED_SILENTLY,
    Metadata,
    Pairing,
    Pending,
    Record,
    Token,
)
from shared.addresses import is_loopback, limit_key
from shared.protocol.limits import SCOPES_HELD_LIMIT_ITEMS, SCOPES_LIMIT_ITEMS
from shared.protocol.scopes import covers_all, normalised, union

if TYPE_CHECKING:
    from services.approval.grants import Draws
    from services.approval.tokens import TokenKeys
    from shared.messages import Admission

REFRESH_LEAST_MS: Final = 10_000
"""A pending request is refreshed at most this often, so that a retry storm writes nothing."""

_DEVICE_TOKEN_METHOD: Final = "device-token"  # noqa: S105 (the name of a method)


class Admit(msgspec.Struct, frozen=True):
    """The device comes in with this token; `changed` holds the record to commit, if any."""

    token: Token
    changed: Record | None
    kind: str
    """What the change is called in the audit log."""
    silent: Pending | None = None
    """The request that was approved on the way in, without a person."""


class Ask(msgspec.Struct, frozen=True):
    """A person has to decide; `changed` holds the record to commit, if any.

    `superseded` is the request that the new one replaces. A refresh has no `kind`: it is no change.
    """

    reason: str
    pending: Pending
    pairing: Pairing | None
    changed: Record | None
    kind: str
    superseded: str


class Deny(msgspec.Struct, frozen=True):
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
    if reason is not None and _asks_too_much(record, question):
        return Deny("scope-mismatch")
    if reason is not None and trusted.approves(reason, question):
        return _let_in(record, question, reason, now_ms=now_ms, draws=draws)
    if reason is not None:
        return _ask(record, pairing, question, reason, now_ms=now_ms, ttl_ms=ttl_ms, draws=draws)
    if record is None or pairing is None:
        message = "admitted without a pairing"
        raise AssertionError(message)
    return _admit(record, pairing, question, now_ms, draws)


def _let_in(
    record: Record | None, question: Admission, reason: str, *, now_ms: int, draws: Draws
) -> Admit:
    """Approve what a trusted client asks for now, and no more, and let it in with that."""
    pending = _pending(question, reason, now_ms, draws)
    before = record or Record(question.device_id, question.public_key)
    after = approved(before, pending, now_ms=now_ms, draws=draws, via=PAIRED_SILENTLY)
    if after.pairing is None:
        message = "approved without a pairing"
        raise AssertionError(message)
    admit = _admit(after, after.pairing, question, now_ms, draws)
    return Admit(admit.token, admit.changed or after, "approved", pending)


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
    if differs(known.platform, question.client.platform) or differs(
        known.device_family, question.client.device_family
    ):
        return "metadata-upgrade"
    if not pairing.holds(question.role):
        return "role-upgrade"
    if not covers_all(pairing.scopes, question.scopes, question.role):
        return "scope-upgrade"
    return None


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
    pending = _pending(question, reason, now_ms, draws)
    if waiting is not None:
        pending = replace(
            pending,
            roles=tuple(union(waiting.roles, pending.roles)),
            scopes=tuple(union(waiting.scopes, pending.scopes)),
        )
        if len(pending.scopes) > SCOPES_LIMIT_ITEMS:
            return Ask(reason, waiting, pairing, None, "", "")
    changed = Record(question.device_id, question.public_key, pairing, pending)
    superseded = waiting.request_id if waiting else ""
    return Ask(reason, pending, pairing, changed, "requested", superseded)


def _pending(question: Admission, reason: str, now_ms: int, draws: Draws) -> Pending:
    return Pending(
        request_id=draws.request_id(),
        reason=reason,
        role=question.role,
        roles=(question.role,),
        scopes=tuple(union(question.scopes)),
        metadata=_metadata(question),
        limit_key=limit_key(question.address),
        created_at_ms=now_ms,
        refreshed_at_ms=now_ms,
    )


def _asks_too_much(record: Record | None, question: Admission) -> bool:
    """Say whether more would be approved for one device than a record may hold."""
    pairing = record.pairing if record else None
    waiting = record.pending if record else None
    scopes = union(
        pairing.scopes if pairing else (), waiting.scopes if waiting else (), question.scopes
    )
    return pairing is not None and len(scopes) > SCOPES_HELD_LIMIT_ITEMS


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
