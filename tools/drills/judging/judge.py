"""Decides whether the promises were kept, from the observations alone. No I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from tools.drills.fault import Back, Hits
from tools.drills.judging.observed import CUT_OFF, ONCE
from tools.drills.stack.settings import BACK_SECONDS, CLOSING_MARGIN_SECONDS, LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.drills.fault import Fault, Promise
    from tools.drills.judging.observed import Attempt, Observed, Session

BOUND_SECONDS: Final = LEASE_SECONDS + CLOSING_MARGIN_SECONDS
UNKNOWN: Final = frozenset({"", CUT_OFF, "UNAVAILABLE"})
"""Codes of admissions, and of refusals that say nothing about the device."""


CODES: Final = "a relayed session ends as if the service restarted"
KEPT: Final = "sessions are kept"
RETURNS: Final = "the service returns by itself"
STALL_SECONDS: Final = 1.0
"""A stall of this length may itself expire leases and delay reconnects."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: device, replica and time."""

    promise: str
    text: str
    device: str = ""
    replica: str = ""
    at: float | None = None


@dataclass(slots=True, kw_only=True)
class Verdict:
    """The figures of one case. None: not measurable for this fault."""

    wrong: int = 0
    lost: int | None = 0
    doubled: int = 0
    revoke_seconds: float | None = None
    back_seconds: float | None = None
    failover_seconds: float | None = None
    """From a failover to the first admission."""
    held: int = 0
    """Number of sessions when the fault began."""
    kept: int = 0
    to_keep: int = 0
    """How many of them had to be kept."""
    let_in: int = 0
    turned_away: int = 0
    """Refused attempts of unauthorised devices."""
    approved: int = 0
    violations: list[Violation] = field(default_factory=list)


def judge(seen: Observed, promise: Promise) -> Verdict:
    """Judge one case."""
    wrong = list(_wrong_admissions(seen))
    lost = [] if promise.forgets else list(_lost_approvals(seen))
    doubled = list(_doubled_decisions(seen))
    revoke_seconds, late = _revoke(seen)
    back_seconds, away = _back(seen, promise)
    return Verdict(
        wrong=len(wrong),
        lost=None if promise.forgets else len(lost),
        doubled=len(doubled),
        revoke_seconds=revoke_seconds,
        back_seconds=back_seconds,
        failover_seconds=seen.failover_seconds,
        held=len(seen.sessions),
        kept=sum(_is_kept(session, seen) for session in seen.sessions),
        to_keep=sum(not _is_hit(session, seen, promise) for session in seen.sessions),
        let_in=sum(not attempt.why for attempt in seen.attempts),
        turned_away=sum(
            bool(attempt.why) and not _may_enter(attempt, seen) for attempt in seen.attempts
        ),
        approved=len(
            {approval.request_id for approval in seen.approvals if approval.status == HTTPStatus.OK}
        ),
        violations=[
            *wrong,
            *lost,
            *doubled,
            *late,
            *away,
            *_sessions(seen, promise),
            *(Violation(RETURNS, text) for text in seen.broken),
        ],
    )


def is_disturbed(seen: Observed, fault: Fault, violations: Sequence[Violation]) -> bool:
    """Return whether a stall of the machine may have caused these violations.

    It is no excuse for wrong admissions, lost or repeated decisions, or connections served too
    long.
    """
    stalled = max(seen.drill_stalled, 0.0 if fault.harms_redis else seen.redis_stalled)
    return stalled > STALL_SECONDS and all(
        violation.promise in {KEPT, RETURNS} for violation in violations
    )


def _may_enter(attempt: Attempt, seen: Observed) -> bool:
    return seen.grants.may_enter(attempt.device, attempt.began, attempt.at)


def _wrong_admissions(seen: Observed) -> Iterator[Violation]:
    for attempt in seen.attempts:
        if not attempt.why and not _may_enter(attempt, seen):
            text = "admitted without an approval, or after its revocation"
            yield Violation(
                "no device is admitted wrongly", text, attempt.device, attempt.replica, attempt.at
            )


def _lost_approvals(seen: Observed) -> Iterator[Violation]:
    promise = "nothing approved is lost"
    audited_approvals = Counter(
        entry.request_id for entry in seen.audit if entry.action == "approved"
    )
    answered: dict[str, float] = {}
    for approval in seen.approvals:
        if approval.status != HTTPStatus.OK:
            text = f"pending as {approval.request_id}, but its approval returned {approval.status}"
            yield Violation(promise, text, approval.device, "", approval.at)
            continue
        if approval.device in answered:
            continue
        answered[approval.device] = approval.at
        if seen.paired is None:
            continue
        if approval.device not in seen.paired and seen.grants.stands(approval.device):
            text = "approved (200), but not among the paired devices afterwards"
            yield Violation(promise, text, approval.device, "", approval.at)
        elif not audited_approvals[approval.request_id]:
            text = "approved (200), but not in the audit log"
            yield Violation(promise, text, approval.device, "", approval.at)
    for attempt in seen.attempts:
        since = answered.get(attempt.device, attempt.began)
        paired = since <= attempt.began and seen.grants.holds(
            attempt.device, attempt.began, attempt.at
        )
        if paired and attempt.why not in UNKNOWN:
            text = f"paired, but refused with {attempt.why}"
            yield Violation(promise, text, attempt.device, attempt.replica, attempt.at)


def _doubled_decisions(seen: Observed) -> Iterator[Violation]:
    promise = "nothing is decided twice"
    decisions = Counter(
        (entry.request_id, entry.action)
        for entry in seen.audit
        if entry.action in ONCE and entry.request_id
    )
    removals = Counter(entry.device for entry in seen.audit if entry.action == "removed")
    approvals = Counter(entry.device for entry in seen.audit if entry.action == "approved")
    for (request_id, action), again in decisions.items():
        times = again + ((request_id, action) in seen.decided_before)
        if times > 1:
            device = next(entry.device for entry in seen.audit if entry.request_id == request_id)
            text = f"request {request_id}: {times} times {action} in the audit log"
            yield Violation(promise, text, device)
    for device, times in removals.items():
        if times > max(1, approvals[device]):
            yield Violation(promise, f"{times} times removed in the audit log", device)


def _revoke(seen: Observed) -> tuple[float | None, list[Violation]]:
    """Return the time from the revocation's response to the last close, and the violations.

    A paused replica cannot close anything, so its sockets count from when it resumes. It must not
    serve them then, either.
    """
    revoke = seen.revoke
    if revoke is None or revoke.asked is None:
        return None, []
    promise = "revoked is closed within the lease"
    if revoke.answered is None:
        return None, [Violation(promise, "the revocation was never answered", revoke.device)]
    took = 0.0
    late: list[Violation] = []
    for session in revoke.sessions:
        begin = seen.frozen_until(session.replica, revoke.answered)
        bound = _bound(seen, session, revoke.answered)
        if session.closed is None:
            late.append(Violation(promise, "never closed", revoke.device, session.replica))
            continue
        took = max(took, session.closed - begin)
        if session.closed > bound:
            text = f"closed {session.closed - begin:.1f} s after the response to the revocation"
            late.append(Violation(promise, text, revoke.device, session.replica, session.closed))
        if session.served > revoke.answered + BOUND_SECONDS:
            text = (
                f"still served {session.served - begin:.1f} s after the response to the revocation"
            )
            late.append(Violation(promise, text, revoke.device, session.replica, session.served))
    return took, late


def _bound(seen: Observed, session: Session, since: float) -> float:
    """Return the latest time for closing a session: a lease later, or when its replica resumes."""
    lease_ends = since + LEASE_SECONDS
    return seen.frozen_until(session.replica, lease_ends) + CLOSING_MARGIN_SECONDS


def _back(seen: Observed, promise: Promise) -> tuple[float | None, list[Violation]]:
    """Return when each churning device was admitted again, and the violations."""
    since = seen.began if promise.back is Back.FROM_BEGIN else seen.over
    first: dict[str, float] = {}
    for attempt in seen.attempts:
        if not attempt.why and attempt.device in seen.churning and attempt.began >= since:
            first[attempt.device] = min(first.get(attempt.device, attempt.at), attempt.at)
    away = [
        Violation(RETURNS, "was not admitted again", device)
        for device in sorted(seen.churning - first.keys())
    ]
    took = max((at - since for at in first.values()), default=None)
    allowed = BACK_SECONDS + (seen.over - seen.began if promise.back is Back.FROM_BEGIN else 0)
    if took is not None and took > allowed:
        device = max(first, key=lambda item: first[item])
        text = f"admitted again only after {took:.1f} s"
        away.append(Violation(RETURNS, text, device, "", first[device]))
    return took, away


def _is_hit(session: Session, seen: Observed, promise: Promise) -> bool:
    if promise.hits is Hits.TARGET:
        return session.replica == seen.case
    return promise.hits is Hits.EVERYBODY


def _is_kept(session: Session, seen: Observed) -> bool:
    return session.closed is None or session.closed > seen.ended


def _sessions(seen: Observed, promise: Promise) -> Iterator[Violation]:
    for session in seen.sessions:
        hit = _is_hit(session, seen, promise)
        if not hit and not _is_kept(session, seen):
            text = f"closed with {session.code}, but its session should have been kept"
            yield Violation(KEPT, text, session.device, session.replica, session.closed)
        if hit and session.code and promise.codes and session.code not in promise.codes:
            text = f"closed with {session.code}, which does not ask the client to come back"
            yield Violation(CODES, text, session.device, session.replica, session.closed)
        if hit and promise.within_lease:
            bound = _bound(seen, session, seen.struck)
            if session.closed is None or session.closed > bound:
                when = (
                    "never"
                    if session.closed is None
                    else f"after {session.closed - seen.struck:.1f} s"
                )
                text = f"closed {when}, without a lease"
                yield Violation(
                    "nobody is served without a lease",
                    text,
                    session.device,
                    session.replica,
                    session.closed,
                )
