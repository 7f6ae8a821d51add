"""Admission of a device by a valid setup code: (code, record, request, now) → decision. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from services.approval.domain import identities, policy
from services.approval.domain.pairing import redeemed
from services.approval.domain.records import Record, Token
from services.approval.domain.setup_codes import BOUND_LIMIT_CODES, leg_of, matches
from shared.protocol.scopes import covers_all

if TYPE_CHECKING:
    from services.approval.domain.pairing import IdFactory
    from services.approval.domain.records import Pairing, Pending
    from services.approval.domain.setup_codes import SetupCode
    from services.approval.domain.tokens import TokenKeys
    from shared.rpc.messages import AuthorizeDevice

BOOTSTRAP: Final = "bootstrap-token"
"""The method that hello-ok names."""
NEW: Final = "new"
UPGRADED: Final = "upgraded"
AGAIN: Final = "again"
"""What a use of a code did: paired a device, gave it more, or issued its tokens again."""


class Redeem(msgspec.Struct, frozen=True):
    """The device is admitted at once, and the code is used up.

    `approved` is the request that the code approved, None if nothing had to be; `superseded` the
    earlier request of the device that it replaces.
    """

    token: Token
    more: dict[str, Token]
    """Tokens for further roles, by role."""
    changed: Record | None
    code: SetupCode
    how: str
    approved: Pending | None = None
    superseded: Pending | None = None


class Present(msgspec.Struct, frozen=True):
    """The ordinary rules decide, and the code is bound to the device."""

    decision: policy.Admit | policy.Ask
    code: SetupCode


SetupDecision = Redeem | Present | policy.Deny


def admit_by_code(
    code: SetupCode,
    record: Record | None,
    question: AuthorizeDevice,
    *,
    attempt: str,
    now_ms: int,
    ttl_ms: int,
    keys: TokenKeys,
    draws: IdFactory,
) -> SetupDecision:
    """Decide on a device whose code `setup_codes.refusal_of` does not refuse.

    A client of the kind that the profile is for is paired without a person. All others need an
    approval, as without a code. `attempt` is the connection; its question may be asked again.
    """
    if record is not None and record.public_key != question.public_key:
        return policy.Deny("key-mismatch")
    question = replace(question, method=BOOTSTRAP)
    bound = replace(
        code,
        device_id=question.device_id,
        public_key=question.public_key,
        device_name=_name(record, question),
    )
    if question.role == "node" and matches(code.profile, question.client):
        found = _redeem(bound, record, question, now_ms, draws)
        if found is not None:
            return replace(found, code=_used(found.code, attempt, now_ms))
    decision = policy.authorize(
        record, question, now_ms=now_ms, ttl_ms=ttl_ms, keys=keys, draws=draws
    )
    if isinstance(decision, policy.Deny):
        return decision
    leg = leg_of(question)
    if isinstance(decision, policy.Ask):
        return Present(_with_code(decision, record, code.setup_id), replace(bound, staged=leg))
    served = bound.served if leg in bound.served else (*bound.served, leg)
    bound = replace(bound, staged=None, served=served)
    return Present(decision, _used(bound, attempt, now_ms) if bound.is_complete else bound)


def _redeem(
    bound: SetupCode,
    record: Record | None,
    question: AuthorizeDevice,
    now_ms: int,
    draws: IdFactory,
) -> Redeem | None:
    """Admit a device without a person; None if its record requires one."""
    before = record.pairing if record else None
    if before is not None and not (
        policy.is_same_device(before, question) and before.holds("node")
    ):
        return None
    grants = bound.grants
    if before is not None and _suffices(before, bound):
        return Redeem(before.tokens["node"], _more(before, bound), None, bound, AGAIN)
    claimed = identities.claimed(question)
    reason = "not-paired" if before is None else "scope-upgrade"
    pending = replace(
        policy.new_request(question, claimed, reason, now_ms, draws),
        roles=grants.roles,
        scopes=grants.scopes,
    )
    pairing = redeemed(before, pending, now_ms=now_ms, draws=draws)
    return Redeem(
        pairing.tokens["node"],
        _more(pairing, bound),
        Record(question.device_id, question.public_key, pairing),
        bound,
        NEW if before is None else UPGRADED,
        pending,
        record.pending if record else None,
    )


def _suffices(pairing: Pairing, code: SetupCode) -> bool:
    """Return whether a device already has all that the code grants, with tokens of our own."""
    grants = code.grants
    held = all(pairing.holds(role) and not pairing.tokens[role].imported for role in grants.roles)
    return held and covers_all(pairing.scopes, grants.scopes, "operator")


def _more(pairing: Pairing, code: SetupCode) -> dict[str, Token]:
    return {role: pairing.tokens[role] for role in code.grants.roles if role != "node"}


def repeated(
    code: SetupCode, record: Record | None, question: AuthorizeDevice, attempt: str
) -> tuple[Token, dict[str, Token]] | None:
    """Return the tokens for the connection that has used the code up, if it asks again.

    None for anybody else, and if the device has lost its rights in between.
    """
    pairing = record.pairing if record else None
    if not (code.used_at_ms and code.used_by == attempt and code.device_id == question.device_id):
        return None
    if pairing is None or not pairing.holds(question.role):
        return None
    by_rule = question.role == "node" and matches(code.profile, question.client)
    if by_rule and not _suffices(pairing, code):
        return None
    return pairing.tokens[question.role], _more(pairing, code) if by_rule else {}


def _used(code: SetupCode, attempt: str, now_ms: int) -> SetupCode:
    return replace(code, used_at_ms=now_ms, used_by=attempt, staged=None)


def _with_code(decision: policy.Ask, record: Record | None, setup_id: str) -> policy.Ask:
    """Note the code with the request, so that rejecting the request revokes it."""
    if setup_id in decision.pending.setup_ids:
        return decision
    setup_ids = (*decision.pending.setup_ids, setup_id)[-BOUND_LIMIT_CODES:]
    pending = replace(decision.pending, setup_ids=setup_ids)
    changed = decision.changed or record
    if changed is None:
        return decision
    return replace(decision, pending=pending, changed=replace(changed, pending=pending))


def _name(record: Record | None, question: AuthorizeDevice) -> str:
    label = record.pairing.operator_label if record and record.pairing else ""
    return label or question.client.display_name
