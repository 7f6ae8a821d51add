"""The drill can fail: every broken promise is a violation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.unit.tools.drills.drill_case import (
    BEGAN,
    CHURNER,
    ENDED,
    GONE,
    HOLDER,
    KEPT,
    NEWCOMER,
    OTHERS_KEPT,
    OVER,
    PAIRED,
    REQUEST,
    REVOKE_ANSWERED,
    REVOKED,
    STRANGER,
    fault,
    good_case,
)
from tools.drills.judging.exits import HELD, VIOLATED, exit_of
from tools.drills.judging.explanation import explain
from tools.drills.judging.judge import BOUND_SECONDS, RETURNS, STALL_SECONDS, is_disturbed, judge
from tools.drills.judging.observed import Approval, Attempt, Entry, Frozen, Session
from tools.drills.judging.table import Row, table
from tools.drills.stack.settings import BACK_SECONDS, LEASE_SECONDS

if TYPE_CHECKING:
    from tools.drills.fault import Promise
    from tools.drills.judging.judge import Verdict, Violation
    from tools.drills.judging.observed import Observed


def judged(seen: Observed, promise: Promise = KEPT) -> Verdict:
    """Judge the case, and check that the exit status agrees."""
    verdict = judge(seen, promise)
    row = Row(fault(promise), [verdict])
    assert exit_of([row]) == (VIOLATED if verdict.violations else HELD)
    assert row.cells()[-1] == ("NO" if verdict.violations else "yes")
    return verdict


def the_violation(seen: Observed, promise: Promise = KEPT) -> Violation:
    """Return the only violation, after a check of its explain."""
    (violation,) = judged(seen, promise).violations
    received = explain(seen, violation)
    for part in (violation.promise, violation.text, violation.device, violation.replica):
        assert part in received
    assert '"gateway killed (-9)" of gateway-1, round 1' in received
    return violation


def revoked_session(seen: Observed) -> Session:
    assert seen.revoke is not None
    return seen.revoke.sessions[1]


class TestHeld:
    def test_nothing_is_violated(self) -> None:
        verdict = judged(good_case())
        assert verdict.violations == []
        assert (verdict.wrong, verdict.lost, verdict.doubled) == (0, 0, 0)
        assert verdict.revoke_seconds == pytest.approx(0.02)
        assert verdict.back_seconds == pytest.approx(1.0), "from the fault's begin"
        assert (verdict.held, verdict.kept, verdict.to_keep) == (2, 2, 2)
        assert (verdict.let_in, verdict.turned_away, verdict.approved) == (4, 3, 1)

    def test_an_aborted_round_or_a_fault_that_was_not_tried_is_a_failure(self) -> None:
        row = Row(fault(KEPT), [judge(good_case(), KEPT)])
        assert exit_of([row], broken=True) == VIOLATED
        assert exit_of([row, Row(fault(KEPT))]) == VIOLATED


class TestNobodyIsAdmitted:
    def test_an_unauthenticated_client_is_never_admitted(self) -> None:
        seen = good_case()
        seen.attempts.append(Attempt(STRANGER, 101.0, 101.1, "gateway-2"))
        violation = the_violation(seen)
        assert (violation.promise, violation.device) == ("no device is admitted wrongly", STRANGER)
        assert violation.replica == "gateway-2"
        assert judged(seen).wrong == 1

    def test_a_revoked_device_is_not_admitted_after_the_answer(self) -> None:
        seen = good_case()
        after = REVOKE_ANSWERED + 0.001
        seen.attempts.append(Attempt(REVOKED, after, after + 0.1, "gateway-1"))
        assert the_violation(seen).device == REVOKED

    def test_a_revoked_device_may_be_admitted_before_the_answer(self) -> None:
        seen = good_case()
        before = REVOKE_ANSWERED - 0.001
        seen.attempts.append(Attempt(REVOKED, before, before + 0.1, "gateway-1"))
        assert judged(seen).violations == []

    def test_after_flushall_formerly_paired_devices_are_not_admitted(self) -> None:
        seen = good_case()
        seen.grants.void_all(101.5, 101.6)
        (violation,) = judge(seen, replace(GONE, forgets=True, within_lease=False)).violations
        assert (violation.promise, violation.at) == ("no device is admitted wrongly", 102.5)
        seen.grants.grant(CHURNER, 102.0)
        assert judge(seen, replace(GONE, forgets=True, within_lease=False)).violations == []


class TestNothingApprovedIsLost:
    def test_an_approved_device_is_paired_afterwards(self) -> None:
        seen = good_case()
        seen.paired = PAIRED - {NEWCOMER}
        seen.approvals.append(Approval(NEWCOMER, REQUEST, 101.25))
        assert the_violation(seen).device == NEWCOMER
        assert judged(seen).lost == 1, "one, though two operators were told"

    def test_records_that_cannot_be_read_are_no_loss_but_a_failure(self) -> None:
        seen = good_case()
        seen.paired, seen.audit = None, []
        seen.broken.append("the records cannot be read")
        assert the_violation(seen).promise == RETURNS

    def test_a_device_that_was_removed_is_not_lost(self) -> None:
        seen = good_case()
        seen.paired = PAIRED - {NEWCOMER}
        seen.grants.void(NEWCOMER, 104.0)
        assert judged(seen).violations == []

    def test_an_approval_is_in_the_audit_log(self) -> None:
        seen = good_case()
        seen.audit.pop()
        assert "audit" in the_violation(seen).text

    def test_a_request_that_a_device_was_given_exists(self) -> None:
        seen = good_case()
        seen.approvals.append(Approval(NEWCOMER, REQUEST, 101.25, 404))
        assert "404" in the_violation(seen).text

    @pytest.mark.parametrize("why", ["PAIRING_REQUIRED", "AUTH_DEVICE_TOKEN_MISMATCH"])
    def test_a_paired_device_is_never_asked_to_pair_again(self, why: str) -> None:
        seen = good_case()
        seen.attempts.append(Attempt(CHURNER, 103.0, 103.1, "gateway-3", why))
        assert why in the_violation(seen).text

    def test_a_device_is_not_refused_after_its_approval_was_answered(self) -> None:
        seen = good_case()
        seen.attempts.append(Attempt(NEWCOMER, 101.21, 101.3, "gateway-3", "PAIRING_REQUIRED"))
        assert the_violation(seen).device == NEWCOMER

    def test_losses_are_not_counted_where_the_fault_deletes_everything(self) -> None:
        seen = good_case()
        seen.paired = frozenset()
        verdict = judge(seen, replace(KEPT, forgets=True))
        assert (verdict.lost, verdict.violations) == (None, [])
        assert " n/a " in table([Row(fault(KEPT), [verdict])])


class TestNothingIsDecidedTwice:
    @pytest.mark.parametrize("action", ["approved", "requested"])
    def test_a_decision_is_in_the_audit_log_once(self, action: str) -> None:
        seen = good_case()
        seen.audit.append(Entry(10, action, NEWCOMER, REQUEST))
        violation = the_violation(seen)
        assert REQUEST in violation.text
        assert violation.device == NEWCOMER
        assert judged(seen).doubled == 1

    def test_a_decision_of_an_earlier_case_is_not_made_again(self) -> None:
        seen = good_case()
        seen.decided_before = frozenset({(REQUEST, "approved")})
        assert the_violation(seen).device == NEWCOMER

    def test_a_device_is_removed_once(self) -> None:
        seen = good_case()
        seen.audit.append(Entry(10, "removed", REVOKED, ""))
        assert the_violation(seen).device == REVOKED


class TestRevoked:
    def test_sessions_of_a_revoked_device_are_closed_within_the_bound(self) -> None:
        seen = good_case()
        revoked_session(seen).closed = REVOKE_ANSWERED + BOUND_SECONDS + 0.1
        violation = the_violation(seen)
        assert (violation.device, violation.replica) == (REVOKED, "gateway-2")
        assert judged(seen).revoke_seconds == pytest.approx(BOUND_SECONDS + 0.1)

    def test_sessions_of_a_revoked_device_are_closed(self) -> None:
        seen = good_case()
        revoked_session(seen).closed = None
        assert the_violation(seen).text == "never closed"

    def test_a_revoked_device_is_not_served_after_the_lease(self) -> None:
        seen = good_case()
        revoked_session(seen).served = REVOKE_ANSWERED + BOUND_SECONDS + 0.1
        assert "served" in the_violation(seen).text

    def test_a_revoked_device_is_not_served_when_a_stopped_gateway_resumes(self) -> None:
        seen = good_case()
        goes_on = REVOKE_ANSWERED + BOUND_SECONDS + 0.1
        seen.frozen.append(Frozen("gateway-2", BEGAN, goes_on))
        session = revoked_session(seen)
        session.served, session.closed = goes_on + 0.01, goes_on + 0.02
        assert "served" in the_violation(seen).text

    def test_a_revoke_is_answered(self) -> None:
        seen = good_case()
        assert seen.revoke is not None
        seen.revoke.answered = None
        assert "answered" in the_violation(seen).text

    def test_a_stopped_gateway_closes_when_it_resumes(self) -> None:
        seen = good_case()
        goes_on = REVOKE_ANSWERED + 3 * LEASE_SECONDS
        seen.frozen.append(Frozen("gateway-2", BEGAN, goes_on))
        revoked_session(seen).closed = goes_on + 0.1
        verdict = judged(seen)
        assert verdict.violations == []
        assert verdict.revoke_seconds == pytest.approx(0.1)
        revoked_session(seen).closed = goes_on + LEASE_SECONDS
        assert the_violation(seen).replica == "gateway-2"


class TestTheServiceReturns:
    def test_a_device_that_reconnects_briefly_is_not_reported_as_admitted_again(self) -> None:
        seen = good_case()
        seen.attempts = [attempt for attempt in seen.attempts if attempt.device != CHURNER]
        assert the_violation(seen).device == CHURNER

    def test_the_service_returns_within_the_bound(self) -> None:
        seen = good_case()
        late = OVER + BACK_SECONDS + 1
        seen.attempts = [attempt for attempt in seen.attempts if attempt.device != CHURNER]
        seen.attempts.append(Attempt(CHURNER, late - 0.1, late, "gateway-1"))
        assert the_violation(seen).at == late

    def test_the_return_is_measured_from_the_end_of_the_fault_where_promised(self) -> None:
        seen = good_case()
        for session in seen.sessions:
            session.closed = OVER
        assert judged(seen, GONE).back_seconds == pytest.approx(0.5)

    def test_a_service_that_does_not_return_is_a_violation(self) -> None:
        seen = good_case()
        seen.broken.append("gateway-2 is ready: not within 30 s")
        assert the_violation(seen).text == "gateway-2 is ready: not within 30 s"


class TestSessions:
    def test_a_session_that_should_be_kept_is_not_closed(self) -> None:
        seen = good_case()
        seen.sessions[1].closed, seen.sessions[1].code = 101.0, 1012
        violation = the_violation(seen)
        assert (violation.device, violation.replica) == (HOLDER, "gateway-2")
        verdict = judged(seen)
        assert (verdict.kept, verdict.to_keep) == (1, 2)

    def test_a_session_that_closes_after_the_case_was_kept(self) -> None:
        seen = good_case()
        seen.sessions[1].closed = ENDED + 0.1
        assert judged(seen).kept == 2

    def test_the_sessions_of_the_target_are_closed_within_the_lease(self) -> None:
        seen = good_case()
        assert the_violation(seen, OTHERS_KEPT).replica == "gateway-1"
        seen.sessions[0].closed = BEGAN + LEASE_SECONDS
        assert judged(seen, OTHERS_KEPT).violations == []
        seen.sessions[0].closed = BEGAN + BOUND_SECONDS + 0.1
        assert "without a lease" in the_violation(seen, OTHERS_KEPT).text

    def test_all_sessions_are_closed_within_the_lease(self) -> None:
        seen = good_case()
        for session in seen.sessions:
            session.closed = BEGAN + LEASE_SECONDS
        assert judged(seen, GONE).violations == []
        seen.sessions[1].closed = None
        assert the_violation(seen, GONE).replica == "gateway-2"


class TestDisturbed:
    """A stalled machine may end a session, and excuses nothing else."""

    def seen(
        self, *, redis_stalled: float = 0.0, drill_stalled: float = 0.0
    ) -> tuple[Observed, list[Violation]]:
        seen = good_case()
        seen.redis_stalled, seen.drill_stalled = redis_stalled, drill_stalled
        seen.sessions[1].closed = 101.0
        return seen, judge(seen, KEPT).violations

    def test_a_session_that_ended_while_the_machine_stalled_is_disturbed(self) -> None:
        seen, violations = self.seen(redis_stalled=STALL_SECONDS + 0.1)
        assert is_disturbed(seen, fault(KEPT), violations)
        seen, violations = self.seen(drill_stalled=STALL_SECONDS + 0.1)
        assert is_disturbed(seen, fault(KEPT), violations)

    def test_a_session_that_ended_without_a_stall_is_not_disturbed(self) -> None:
        seen, violations = self.seen(redis_stalled=STALL_SECONDS - 0.1)
        assert not is_disturbed(seen, fault(KEPT), violations)

    def test_a_redis_that_was_stopped_on_purpose_did_not_stall(self) -> None:
        seen, violations = self.seen(redis_stalled=STALL_SECONDS + 0.1)
        assert not is_disturbed(seen, replace(fault(KEPT), harms_redis=True), violations)

    def test_a_stall_excuses_no_wrong_admission(self) -> None:
        seen, _ = self.seen(redis_stalled=STALL_SECONDS + 0.1)
        seen.attempts.append(Attempt(STRANGER, 101.0, 101.1, "gateway-2"))
        assert not is_disturbed(seen, fault(KEPT), judge(seen, KEPT).violations)
