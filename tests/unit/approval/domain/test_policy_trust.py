"""Trusted local operators are approved automatically, and no other clients."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.approval.domain import policy
from shared.protocol.limits import SCOPES_HELD_LIMIT_ITEMS, SCOPES_LIMIT_ITEMS
from tests.unit.approval.domain.policy_case import KEYS, TTL_MS, PolicyCase

READ = ("operator.read",)


def judged(
    case: PolicyCase, *scopes: str, client: str = "cli", mode: str = "cli", **asks: Any
) -> Any:
    """Evaluate a trusted client's request, and store the record."""
    question = case.device.asks(scopes, **asks)
    question = msgspec.structs.replace(
        question,
        trusted=True,
        client=msgspec.structs.replace(question.client, id=client, mode=mode),
    )
    verdict = policy.authorize(
        case.record, question, now_ms=case.now_ms, ttl_ms=TTL_MS, keys=KEYS, draws=case.draws
    )
    if not isinstance(verdict, policy.Deny) and verdict.changed is not None:
        case.record = verdict.changed
    return verdict


def admitted(case: PolicyCase, *scopes: str, **asks: Any) -> policy.Admit:
    """Evaluate a request that is approved at once."""
    verdict = judged(case, *scopes, **asks)
    assert isinstance(verdict, policy.Admit), verdict
    return verdict


def test_a_new_device_is_paired_with_what_it_asks_for() -> None:
    case = PolicyCase()
    verdict = admitted(case, *READ)
    assert verdict.kind == "approved"
    assert verdict.silent is not None
    assert verdict.token.scopes == READ
    assert (case.pairing.scopes, case.pairing.approved_via) == (READ, "silent")
    assert case.pending is None
    again = admitted(case, *READ)
    assert (again.changed, again.silent) == (None, None)


def test_more_scopes_are_approved_and_the_token_covers_them() -> None:
    case = PolicyCase()
    admitted(case, *READ)
    verdict = admitted(case, "operator.pairing")
    assert verdict.token.scopes == ("operator.pairing", "operator.read")
    assert case.pairing.scopes == ("operator.read", "operator.pairing")


def test_more_than_a_record_may_hold_are_not() -> None:
    case = PolicyCase()
    scopes = [f"operator.x{number}" for number in range(SCOPES_HELD_LIMIT_ITEMS)]
    for at in range(0, len(scopes), SCOPES_LIMIT_ITEMS):
        admitted(case, *scopes[at : at + SCOPES_LIMIT_ITEMS])
    assert judged(case, *READ) == policy.Deny("scope-mismatch")


def test_a_role_that_was_revoked_comes_back() -> None:
    case = PolicyCase()
    admitted(case, *READ)
    token_generation = case.pairing.tokens["operator"].token_generation
    case.revoke()
    verdict = admitted(case, *READ)
    assert verdict.silent is not None
    assert verdict.silent.reason == "role-upgrade"
    assert case.pairing.tokens["operator"].token_generation not in {"", token_generation}


def test_what_waited_is_not_approved_along_with_it() -> None:
    case = PolicyCase()
    case.ask("operator.admin")
    admitted(case, *READ)
    assert case.pairing.scopes == READ
    assert case.pending is None


@pytest.mark.parametrize(
    ("scopes", "asks"),
    [
        ((), {"role": "node"}),
        (("node.run",), {}),
        ((" operator.read",), {}),
    ],
    ids=["a node", "a scope of nodes", "a scope with blanks"],
)
def test_other_requests_are_decided_by_a_person(
    scopes: tuple[str, ...], asks: dict[str, Any]
) -> None:
    assert isinstance(judged(PolicyCase(), *scopes, **asks), policy.Ask)


def test_a_changed_command_line_is_looked_at_and_a_native_app_is_not() -> None:
    case = PolicyCase()
    admitted(case, *READ)
    assert isinstance(judged(case, *READ, platform="darwin"), policy.Ask)
    app = PolicyCase()
    admitted(app, *READ, client="openclaw-macos", mode="ui")
    verdict = admitted(app, *READ, client="openclaw-macos", mode="ui", platform="darwin")
    assert verdict.silent is not None
    assert app.pairing.metadata.platform == "darwin"


def test_another_key_is_refused() -> None:
    case = PolicyCase()
    admitted(case, *READ)
    assert isinstance(judged(case, *READ, public_key="x"), policy.Deny)


def test_a_device_token_does_not_widen_itself() -> None:
    case = PolicyCase()
    admitted(case, *READ)
    verdict = judged(case, "operator.admin", token=case.token())
    assert verdict == policy.Deny("scope-mismatch")
