"""JSON objects about approval rules, and the bodies of calls about them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.records import (  # noqa: TC001 (msgspec reads them)
    DeviceId,
    Milliseconds,
)
from services.approval.domain.rules import (
    COUNT_LIMIT,
    DEVICES_LIMIT,
    NETWORKS_LIMIT,
    SCOPES_LIMIT,
    Rule,
    RuleName,
    Uncovered,
)
from shared.protocol.connect import Role  # noqa: TC001 (msgspec reads it)
from shared.protocol.limits import TEXT_LIMIT_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.rules.rules import ListedRule, Tried

Network = Annotated[str, Meta(max_length=64, description="CIDR range or address.")]
Scope = Annotated[str, Meta(max_length=TEXT_LIMIT_CHARACTERS)]


class NewRule(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """A rule to add or to try out.

    `networks`, of the client's address as the gateway reports it, are for nodes only. Of
    `networks` and `deviceIds` at least one must be given; if both are, both have to match.
    """

    name: RuleName
    role: Role
    scopes: Annotated[
        list[Scope], Meta(max_length=SCOPES_LIMIT, description="The most it approves.")
    ] = []
    networks: Annotated[list[Network], Meta(max_length=NETWORKS_LIMIT)] = []
    device_ids: Annotated[list[DeviceId], Meta(max_length=DEVICES_LIMIT)] = []
    expires_at_ms: Annotated[Milliseconds, Meta(le=2**53 - 1)]
    count: Annotated[int, Meta(ge=1, le=COUNT_LIMIT, description="The most it approves in all.")]
    allow_admin: Annotated[
        bool,
        Meta(description="Required if a scope lets devices approve others."),
    ] = False


class RuleObject(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A rule. It approves in the state `active`; `used`: how many requests it has approved."""

    name: str
    state: Literal["active", "expired", "used-up"]
    role: Role
    scopes: list[str]
    networks: list[str]
    device_ids: list[str]
    expires_at_ms: Milliseconds
    count: int
    used: int
    allow_admin: bool
    created_at_ms: Milliseconds
    created_by: str


class RuleList(msgspec.Struct, frozen=True):
    """All rules by name; the first one that covers a request approves it."""

    rules: list[RuleObject]


class AddedRule(msgspec.Struct, frozen=True):
    """The rule that was added."""

    rule: RuleObject


class RemovedRule(msgspec.Struct, frozen=True):
    """The rule that was removed. What it approved stays approved."""

    removed: RuleObject


class TriedRequest(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A request, and whether the rule would approve it.

    `uncovered` is the first part of the rule that does not match; absent if it would approve it.
    `auditId` is the request's entry in the audit log; absent if it is pending now.
    """

    request_id: str
    device_id: str
    role: str
    scopes: list[str]
    address: str
    at_ms: Milliseconds
    approved: bool
    uncovered: Uncovered | UnsetType = UNSET
    audit_id: int | UnsetType = UNSET


class RuleTrial(msgspec.Struct, rename="camel", frozen=True):
    """What a rule would approve of the pending requests and of those in the audit log.

    Newest first. Past requests are judged as if their devices had not been paired. The rule's
    count, and decisions of people against a device, are not taken into account.
    """

    pending: list[TriedRequest]
    past: list[TriedRequest]


def rule_of(body: NewRule) -> Rule:
    """Return the rule that a body describes, without id and origin."""
    return Rule(
        id="",
        role=body.role,
        scopes=tuple(body.scopes),
        expires_at_ms=body.expires_at_ms,
        count=body.count,
        created_at_ms=0,
        created_by="",
        networks=tuple(body.networks),
        device_ids=tuple(body.device_ids),
        allow_admin=body.allow_admin,
    )


def rule_object(listed: ListedRule, now_ms: int) -> RuleObject:
    """Return the JSON object of a rule."""
    rule = listed.rule
    state: Literal["active", "expired", "used-up"] = "active"
    if now_ms >= rule.expires_at_ms:
        state = "expired"
    elif listed.used >= rule.count:
        state = "used-up"
    return RuleObject(
        name=listed.name,
        state=state,
        role=rule.role,
        scopes=list(rule.scopes),
        networks=list(rule.networks),
        device_ids=list(rule.device_ids),
        expires_at_ms=rule.expires_at_ms,
        count=rule.count,
        used=listed.used,
        allow_admin=rule.allow_admin,
        created_at_ms=rule.created_at_ms,
        created_by=rule.created_by,
    )


def trial_object(found: Sequence[Tried]) -> RuleTrial:
    """Return the JSON object of a trial."""
    return RuleTrial(
        [_tried(one) for one in found if not one.entry_id],
        [_tried(one) for one in found if one.entry_id],
    )


def _tried(one: Tried) -> TriedRequest:
    return TriedRequest(
        request_id=one.request_id,
        device_id=one.device_id,
        role=one.role,
        scopes=list(one.scopes),
        address=one.address,
        at_ms=one.at_ms,
        approved=one.uncovered is None,
        uncovered=one.uncovered or UNSET,
        audit_id=one.entry_id or UNSET,
    )
