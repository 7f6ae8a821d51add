"""Authorization of devices: (record, request, now) → (decision, new record). Pure.

Times and random ids are passed as arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from services.approval.domain import identities
from services.approval.domain.pairing import approved, claim_of
from services.approval.domain.records import (
    PAIRED_SILENTLY,
    Metadata,
    Pairing,
    Pending,
    Record,
    Token,
)
from services.approval.domain.rules import NO_RULES, Rule, Rules
from shared.addresses.client import is_loopback, limit_key
from shared.protocol.limits import SCOPES_HELD_LIMIT_ITEMS, SCOPES_LIMIT_ITEMS
from shared.protocol.scopes import covers_all, normalised, union
from shared.protocol.signing import decode_public_key, device_id_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from services.approval.domain.pairing import IdFactory
    from services.approval.domain.records import Identity
    from services.approval.domain.tokens import TokenKeys
    from shared.rpc.messages import AuthorizeDevice

REFRESH_MIN_MS: Final = 10_000
"""Min. time between refreshes of a pending request, so that a retry storm writes nothing."""

TOKEN_ISSUED: Final = "token-issued"  # noqa: S105 (an action in the audit log)
TOKEN_EXCHANGED: Final = "token-exchanged"  # noqa: S105 (an action in the audit log)
_DEVICE_TOKEN_METHOD: Final = "device-token"  # noqa: S105 (the name of a method)
_METHODS_BY_RULE: Final = frozenset({"token", _DEVICE_TOKEN_METHOD})
"""Methods of clients that a rule may approve: they proved the gateway token or a device token."""
_APPROVED_AS_LOCAL: Final = frozenset({"not-paired", "role-upgrade", "scope-upgrade"})
_NATIVE_APPS: Final = frozenset(
    {"openclaw-macos", "openclaw-linux", "openclaw-ios", "openclaw-android"}
)


class AppliedRule(NamedTuple):
    """A rule that approved a request, and the version of the rules it was read from."""

    name: str
    rule: Rule
    version: bytes | str


class Admit(msgspec.Struct, frozen=True):
    """The device is admitted with this token; `changed` holds the record to commit, if any."""

    token: Token
    changed: Record | None
    kind: str
    """The change's action in the audit log."""
    silent: Pending | None = None
    """The request that was approved automatically."""
    rule: AppliedRule | None = None
    """The rule that approved it; None for the rule for local clients."""


class Ask(msgspec.Struct, frozen=True):
    """A person has to decide; `changed` holds the record to commit, if any.

    `superseded` is the request that the new one replaces. `kind` is empty for a refresh, which is
    not a change.
    """

    reason: str
    pending: Pending
    pairing: Pairing | None
    changed: Record | None
    kind: str
    superseded: str


class Deny(msgspec.Struct, frozen=True):
    """The device is refused: `device-token-mismatch`, `scope-mismatch` or `key-mismatch`."""

    why: str


Decision = Admit | Ask | Deny


def authorize(
    record: Record | None,
    question: AuthorizeDevice,
    *,
    now_ms: int,
    ttl_ms: int,
    keys: TokenKeys,
    draws: IdFactory,
    rules: Rules = NO_RULES,
    without_rules: Collection[str] = (),
) -> Decision:
    """Decide whether to admit a device whose key is proven.

    `rules` may approve what else a person would have to, except those with an id in
    `without_rules`.
    """
    if record is not None and record.public_key != question.public_key:
        return Deny("key-mismatch")
    pairing = record.pairing if record else None
    if question.method == _DEVICE_TOKEN_METHOD:
        why = _token_problem(pairing, question, keys, now_ms)
        if why is not None:
            return Deny(why)
    reason = _pairing_problem(pairing, question)
    if reason is not None:
        admit = _approve_unasked(
            record, question, reason, now_ms, draws, rules=rules, without=without_rules
        )
        if admit is not None:
            return admit
        return _ask(record, pairing, question, reason, now_ms=now_ms, ttl_ms=ttl_ms, draws=draws)
    if record is None or pairing is None:
        message = "admitted without a pairing"
        raise AssertionError(message)
    token = pairing.tokens[question.role]
    held = covers_all(token.scopes, question.scopes, question.role)
    return (
        Admit(token, None, "")
        if held and not token.imported
        else _admit(record, pairing, question, now_ms, draws)
    )


def _approve_unasked(
    record: Record | None,
    question: AuthorizeDevice,
    reason: str,
    now_ms: int,
    draws: IdFactory,
    *,
    rules: Rules,
    without: Collection[str],
) -> Admit | Deny | None:
    """Decide a request without a person if possible; else return None.

    A trusted local client, or a device that a rule covers, gets exactly what it asks for. One that
    asks for too much is refused.
    """
    if _asks_too_much(record, question):
        return Deny("scope-mismatch")
    if _approved_as_local(reason, question):
        pending = new_request(question, identities.claimed(question), reason, now_ms, draws)
        return _approved(record, question, pending, PAIRED_SILENTLY, draws)
    if not rules or question.method not in _METHODS_BY_RULE or not _has_own_id(question):
        return None
    pending = new_request(question, identities.claimed(question), reason, now_ms, draws)
    before = record.pairing if record else None
    address = question.address
    claim = claim_of(before, pending, question.device_id, reason=reason, address=address)
    found = rules.covering(claim, now_ms, without)
    if found is None:
        return None
    name, rule = found
    admit = _approved(record, question, pending, f"rule:{name}", draws)
    return replace(admit, rule=AppliedRule(name, rule, rules.version))


def _has_own_id(question: AuthorizeDevice) -> bool:
    """Return whether the device's id is the fingerprint of the key that the gateway verified."""
    key = decode_public_key(question.public_key)
    return key is not None and device_id_of(key) == question.device_id


def _approved(
    record: Record | None, question: AuthorizeDevice, pending: Pending, via: str, draws: IdFactory
) -> Admit:
    """Approve a request and admit its device; `via` says by whom."""
    now_ms = pending.created_at_ms
    before = record.pairing if record else None
    pairing = approved(before, pending, now_ms=now_ms, draws=draws, via=via)
    after = Record(question.device_id, question.public_key, pairing)
    admit = _admit(after, pairing, question, now_ms, draws)
    return Admit(admit.token, admit.changed or after, "approved", pending)


def valid_token(
    pairing: Pairing | None, *, role: str, candidate: str, device_id: str, keys: TokenKeys
) -> Token | None:
    """Return the token of a role that the candidate is; None where it is not, or not any more."""
    token = pairing.tokens.get(role) if pairing else None
    if pairing is None or token is None or not token.active:
        return None
    if not keys.verify(candidate, device_id, role, token.token_id):
        return None
    return token if covers_all(pairing.scopes, token.scopes, role) else None


def _imported_token(
    pairing: Pairing | None, question: AuthorizeDevice, keys: TokenKeys, now_ms: int
) -> Token | None:
    """Return the token of a role if the candidate is the one that it was imported with."""
    token = pairing.tokens.get(question.role) if pairing else None
    if pairing is None or token is None or not token.active:
        return None
    if not token.imported:
        # The answer to the connect that exchanged the token may have been lost: this is the same
        # connect, asked again by its gateway.
        retried = token.exchanged_by and token.exchanged_by == question.call_id
        return token if retried else None
    if now_ms >= token.imported_until_ms:
        return None
    candidate, device_id = question.token_candidate, question.device_id
    if not keys.verify_imported(candidate, device_id, question.role, token.imported):
        return None
    return token if covers_all(pairing.scopes, token.scopes, question.role) else None


def _token_problem(
    pairing: Pairing | None, question: AuthorizeDevice, keys: TokenKeys, now_ms: int
) -> str | None:
    token = valid_token(
        pairing,
        role=question.role,
        candidate=question.token_candidate,
        device_id=question.device_id,
        keys=keys,
    ) or _imported_token(pairing, question, keys, now_ms)
    if token is None:
        return "device-token-mismatch"
    if not covers_all(token.scopes, question.scopes, question.role):
        return "scope-mismatch"
    return None


def _pairing_problem(pairing: Pairing | None, question: AuthorizeDevice) -> str | None:
    """Return the first reason why a person has to decide, in this fixed order, or None."""
    if pairing is None:
        return "not-paired"
    if not is_same_device(pairing, question):
        return "metadata-upgrade"
    if not pairing.holds(question.role):
        return "role-upgrade"
    if not covers_all(pairing.scopes, question.scopes, question.role):
        return "scope-upgrade"
    return None


def is_same_device(pairing: Pairing, question: AuthorizeDevice) -> bool:
    """Return whether a device's claim matches an approved one; exact matches take a fast path."""
    known, client = pairing.metadata, question.client
    if known.platform == client.platform and known.device_family == client.device_family:
        is_newest = pairing.role == question.role and known.client_id == client.id
        if is_newest or not pairing.others:
            return True
    return identities.is_approved(pairing, identities.claimed(question))


def _admit(
    record: Record, pairing: Pairing, question: AuthorizeDevice, now_ms: int, draws: IdFactory
) -> Admit:
    """Return the admission, with the changes that it makes to the role's token.

    Every admission in a role ends the acceptance of its imported token, because it hands out ours.
    """
    token = pairing.tokens[question.role]
    kind = ""
    if token.imported:
        by_token = question.method == _DEVICE_TOKEN_METHOD
        token = replace(
            token,
            imported="",
            imported_until_ms=0,
            exchanged_by=question.call_id if by_token else "",
        )
        kind = TOKEN_EXCHANGED
    if not covers_all(token.scopes, question.scopes, question.role):
        token = replace(
            token,
            token_id=draws.token_id(),
            scopes=tuple(normalised(question.scopes)),
            rotated_at_ms=now_ms,
        )
        kind = TOKEN_ISSUED
    if kind:
        pairing = replace(pairing, tokens={**pairing.tokens, question.role: token})
    return Admit(token, replace(record, pairing=pairing) if kind else None, kind)


def _ask(
    record: Record | None,
    pairing: Pairing | None,
    question: AuthorizeDevice,
    reason: str,
    *,
    now_ms: int,
    ttl_ms: int,
    draws: IdFactory,
) -> Ask:
    waiting = record.pending if record else None
    if waiting is not None and waiting.expired(now_ms, ttl_ms):
        waiting = None
    claimed = identities.claimed(question)
    if waiting is not None and _within(question, waiting) and _is_shown(claimed, waiting):
        return _refresh(record, waiting, reason, pairing=pairing, now_ms=now_ms)
    shown = identities.identities_of(waiting) if waiting is not None else ()
    claimed = identities.as_shown(shown, claimed)
    pending = new_request(question, claimed, reason, now_ms, draws)
    if waiting is not None:
        pending = replace(
            pending,
            roles=tuple(union(waiting.roles, pending.roles)),
            scopes=tuple(union(waiting.scopes, pending.scopes)),
            others=identities.added(shown, claimed),
            setup_ids=waiting.setup_ids,
        )
        if len(pending.scopes) > SCOPES_LIMIT_ITEMS:
            return Ask(reason, waiting, pairing, None, "", "")
    changed = Record(question.device_id, question.public_key, pairing, pending)
    superseded = waiting.request_id if waiting else ""
    return Ask(reason, pending, pairing, changed, "requested", superseded)


def new_request(
    question: AuthorizeDevice, claimed: Identity, reason: str, now_ms: int, draws: IdFactory
) -> Pending:
    """Return a new request for exactly what a device asks for."""
    return Pending(
        request_id=draws.request_id(),
        reason=reason,
        role=question.role,
        roles=(question.role,),
        scopes=tuple(union(question.scopes)),
        metadata=_metadata(claimed, question.address),
        limit_key=limit_key(question.address),
        created_at_ms=now_ms,
        refreshed_at_ms=now_ms,
    )


def _asks_too_much(record: Record | None, question: AuthorizeDevice) -> bool:
    """Return whether approval would exceed the number of scopes a record may hold."""
    pairing = record.pairing if record else None
    waiting = record.pending if record else None
    scopes = union(
        pairing.scopes if pairing else (), waiting.scopes if waiting else (), question.scopes
    )
    return pairing is not None and len(scopes) > SCOPES_HELD_LIMIT_ITEMS


def _within(question: AuthorizeDevice, waiting: Pending) -> bool:
    """Return whether the pending request already covers the role and scopes asked for."""
    asked = set(question.scopes).difference(waiting.scopes)
    return question.role in waiting.roles and covers_all(waiting.scopes, asked, question.role)


def _is_shown(claimed: Identity, waiting: Pending) -> bool:
    """Return whether a pending request covers a claimed identity as it stands.

    A request that already shows ASKING_LIMIT identities no longer changes. Otherwise a device that
    changes its description each time would keep its request from being approved.
    """
    shown = identities.identities_of(waiting)
    return len(shown) >= identities.ASKING_LIMIT or identities.is_shown(shown, claimed)


def _refresh(
    record: Record | None,
    waiting: Pending,
    reason: str,
    *,
    pairing: Pairing | None,
    now_ms: int,
) -> Ask:
    if record is None or now_ms < waiting.refreshed_at_ms + REFRESH_MIN_MS:
        return Ask(reason, waiting, pairing, None, "", "")
    pending = replace(waiting, refreshed_at_ms=now_ms)
    return Ask(reason, pending, pairing, replace(record, pending=pending), "", "")


def _metadata(claimed: Identity, address: str) -> Metadata:
    return Metadata(
        client_id=claimed.client_id,
        client_mode=claimed.client_mode,
        platform=claimed.platform,
        device_family=claimed.device_family,
        display_name=claimed.display_name,
        address="" if is_loopback(address) else address,
    )


def _approved_as_local(reason: str, question: AuthorizeDevice) -> bool:
    """Return whether a request for this reason is approved without a person.

    Requires an operator on the gateway's own machine who proved the gateway token and asks only
    for operator scopes. Changed metadata is accepted from native apps only.
    """
    if not question.trusted or question.role != "operator" or question.method != "token":
        return False
    if any(
        scope != scope.strip() or not scope.startswith("operator.") for scope in question.scopes
    ):
        return False
    if reason == "metadata-upgrade":
        return question.client.id in _NATIVE_APPS and question.client.mode == "ui"
    return reason in _APPROVED_AS_LOCAL
