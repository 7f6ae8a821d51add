"""Adds, lists, removes and tries out approval rules."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.approval.domain import authorization
from services.approval.domain.errors import (
    InvalidRule,
    RuleExists,
    StoreUnavailable,
    TooManyRules,
    UnknownRule,
)
from services.approval.domain.pairing import claim_of
from services.approval.domain.permissions import Permission
from services.approval.domain.records import AuditEntry
from services.approval.domain.rules import (
    RULES_LIMIT,
    Claim,
    Rule,
    Rules,
    compiled,
    problems_of,
    uncovered,
)
from services.approval.storage.changes.transaction import Transaction
from services.approval.storage.keys import RULES, rule_uses_key
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from services.approval.domain.authorization import Caller
    from services.approval.domain.records import Record
    from services.approval.domain.rules import Uncovered
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store

ADDED: Final = "rule-added"
REMOVED: Final = "rule-removed"
"""Actions in the audit log; `label` is the rule's name."""
RULE_CHANGES: Final = frozenset({ADDED, REMOVED})
LOOPBACK: Final = "127.0.0.1"
"""Address of a request whose audit log entry has none: it came from the gateway's machine."""
HISTORY_ENTRIES: Final = 1_000
"""Newest audit log entries that a trial looks at."""
TRIES_LIMIT: Final = 32
"""Max. attempts at a commit that conflicts with others."""
_REQUESTED: Final = "requested"
_KEPT_CHANGING: Final = "the rules could not be changed: they kept changing concurrently"


@dataclass(frozen=True, slots=True)
class ListedRule:
    """A rule and how many requests it has approved."""

    name: str
    rule: Rule
    used: int


@dataclass(frozen=True, slots=True)
class Tried:
    """A request, and why a rule would not approve it; None if it would.

    `entry_id` is that of an audit log entry; 0 for a request that is pending now.
    """

    request_id: str
    device_id: str
    role: str
    scopes: tuple[str, ...]
    address: str
    at_ms: int
    uncovered: Uncovered | None
    entry_id: int = 0


class RuleService:
    """Approval rules. Every method may raise RegistryError."""

    def __init__(self, store: Store, ledger: TransactionLog) -> None:
        self._store = store
        self._ledger = ledger

    async def all(self, caller: Caller) -> list[ListedRule]:
        """Return all rules by name."""
        authorization.require_operator(caller, Permission.VIEW)
        found = sorted((await self._store.rules.all()).by_name.items())
        uses = await self._store.rules.uses([rule.id for _name, rule in found])
        return [
            ListedRule(name, rule, used) for (name, rule), used in zip(found, uses, strict=True)
        ]

    def make(self, caller: Caller, name: str, rule: Rule) -> Rule:
        """Return a rule with its id and origin; raises InvalidRule with everything wrong."""
        authorization.require_operator(caller, Permission.MANAGE)
        now_ms = self._store.now_ms()
        problems = problems_of(name, rule, now_ms)
        if problems:
            raise InvalidRule(problems)
        return Rule(
            id=secrets.token_hex(16),
            role=rule.role,
            scopes=tuple(dict.fromkeys(rule.scopes)),
            expires_at_ms=rule.expires_at_ms,
            count=rule.count,
            created_at_ms=now_ms,
            created_by=caller.name,
            networks=tuple(dict.fromkeys(rule.networks)),
            device_ids=tuple(dict.fromkeys(rule.device_ids)),
            allow_admin=rule.allow_admin,
        )

    async def add(self, caller: Caller, name: str, rule: Rule) -> Rule:
        """Add a rule made by `make`."""
        authorization.require_operator(caller, Permission.MANAGE)
        for _ in range(TRIES_LIMIT):
            known = await self._store.rules.all()
            if name in known.by_name:
                raise RuleExists
            if len(known.by_name) >= RULES_LIMIT:
                raise TooManyRules
            after = Rules(known.version, {**known.by_name, name: rule})
            if await self._commit(caller, ADDED, name, after, rule):
                return rule
        raise StoreUnavailable(_KEPT_CHANGING)

    async def remove(self, caller: Caller, name: str) -> ListedRule:
        """Remove a rule: from this commit on it approves nothing. Devices stay approved."""
        authorization.require_operator(caller, Permission.MANAGE)
        for _ in range(TRIES_LIMIT):
            known = await self._store.rules.all()
            rule = known.by_name.get(name)
            if rule is None:
                raise UnknownRule
            (used,) = await self._store.rules.uses([rule.id])
            left = {other: its for other, its in known.by_name.items() if other != name}
            if await self._commit(caller, REMOVED, name, Rules(known.version, left), rule):
                return ListedRule(name, rule, used)
        raise StoreUnavailable(_KEPT_CHANGING)

    async def try_out(self, caller: Caller, name: str, rule: Rule) -> list[Tried]:
        """Return what a rule would approve now, and would have approved, newest first.

        Past requests are judged as if their device had not been paired, because the audit log
        does not say what it held then.
        """
        authorization.require_operator(caller, Permission.MANAGE)
        ready = compiled(name, rule)
        now_ms = self._store.now_ms()
        pending = [
            self._try_pending(record, uncovered(ready, claim, now_ms))
            for record in (await self._store.pending()).records
            if (claim := _claim_of_record(record)) is not None
        ]
        entries = await self._store.audit_log.newest(HISTORY_ENTRIES)
        past = [
            Tried(
                request_id=entry.request_id,
                device_id=entry.device_id,
                role=entry.role,
                scopes=entry.scopes,
                address=entry.address or LOOPBACK,
                at_ms=entry.at_ms,
                uncovered=uncovered(ready, _claim_of_entry(entry), now_ms),
                entry_id=entry.id,
            )
            for entry in reversed(entries)
            if entry.action == _REQUESTED
        ]
        return [*sorted(pending, key=lambda one: one.at_ms, reverse=True), *past]

    def _try_pending(self, record: Record, why: Uncovered | None) -> Tried:
        pending = record.pending
        if pending is None:
            message = "a pending device without a request"
            raise AssertionError(message)
        return Tried(
            request_id=pending.request_id,
            device_id=record.device_id,
            role=pending.role,
            scopes=pending.scopes,
            address=pending.metadata.address or pending.limit_key,
            at_ms=pending.created_at_ms,
            uncovered=why,
        )

    async def _commit(
        self, caller: Caller, action: str, name: str, after: Rules, rule: Rule
    ) -> bool:
        """Try to replace the rules that were read; return False on a conflict."""
        now_ms = self._store.now_ms()
        entry = Transaction(caller.name, now_ms)
        plan = entry.plan
        plan.expect(RULES, after.version)
        plan.put(RULES, after.encoded())
        if action == REMOVED:
            plan.write("DEL", rule_uses_key(rule.id))
        plan.change(
            Changed(Position(), "", device_id="", kind=action, at_ms=now_ms),
            AuditEntry(
                action=action,
                device_id="",
                actor=caller.name,
                at_ms=now_ms,
                label=name,
                role=rule.role,
                scopes=rule.scopes,
            ),
        )
        return (await self._ledger.commit(entry)).outcome == "done"


def _claim_of_record(record: Record) -> Claim | None:
    pending = record.pending
    if pending is None:
        return None
    return claim_of(
        record.pairing,
        pending,
        record.device_id,
        reason=pending.reason,
        address=pending.metadata.address or pending.limit_key,
    )


def _claim_of_entry(entry: AuditEntry) -> Claim:
    roles = entry.roles or (entry.role,)
    return Claim("not-paired", entry.device_id, entry.address or LOOPBACK, roles, entry.scopes)
