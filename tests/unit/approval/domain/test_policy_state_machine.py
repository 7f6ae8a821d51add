"""The policy's invariants hold for any sequence of device requests and operator actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.approval.domain import pairing, policy
from services.approval.domain.identities import APPROVED_LIMIT, ASKING_LIMIT, identities_of
from tests.support.approval.devices import Device
from tests.unit.approval.domain.policy_case import KEYS, TTL_MS, PolicyCase
from tests.unit.approval.domain.strategies import (
    CLIENTS,
    NAMES,
    PLATFORMS,
    ROLES,
    Claim,
    admitted_by,
    reach,
    wishes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.approval.domain.records import Identity


class Pairing(RuleBasedStateMachine):
    """One device, its operator, and the model of what has been approved."""

    def __init__(self) -> None:
        super().__init__()
        self.case = PolicyCase()
        self.approved: frozenset[str] = frozenset()
        self.approved_as: list[Claim] | None = None
        """The approved claims; None: not paired."""
        self.live: dict[str, tuple[str, tuple[str, ...]]] = {}
        """By role: the valid device token and its scopes."""
        self.dead: set[str] = set()
        """Tokens that must stay invalid."""
        self.requests: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        """By request id: its roles and scopes when it was created."""
        self.shown: dict[str, list[Claim]] = {}
        """By request id: its claims when it was created, newest first."""
        self.renamed: dict[str, int] = {}
        """By request id: how many requests up to it were created only because of another claim."""
        self.asked_for: dict[str, set[str]] = {}
        """By request id: all scopes requested up to it."""
        self.over: set[str] = set()
        """Request ids that have ended."""

    @rule(
        wish=wishes,
        client=st.sampled_from(CLIENTS),
        platform=st.sampled_from(PLATFORMS),
        name=st.sampled_from(NAMES),
        token=st.sampled_from(("none", "none", "live", "other role's", "dead", "wrong")),
    )
    def device_connects(
        self,
        wish: tuple[str, list[str]],
        client: tuple[str, str],
        platform: str,
        name: str,
        token: str,
    ) -> None:
        """Evaluate a request, with or without a device token."""
        role, scopes = wish
        candidate = self.candidate(token, role)
        waiting = self.open_request()
        claim = Claim(role, client, platform, name)
        before = self.case.record
        verdict = self.case.judge(
            *scopes, role=role, client=client, platform=platform, name=name, token=candidate
        )
        opens = role in self.live and self.live[role][0] == candidate
        fits = self.approved_as is not None and admitted_by(self.approved_as, claim)
        covered = set(scopes) <= reach(self.approved, role)
        may = fits and role in self.live and covered
        if isinstance(verdict, policy.Admit):
            assert may
            assert not candidate or (opens and set(scopes) <= reach(self.live[role][1], role))
            assert set(verdict.token.scopes) <= reach(self.approved, role)
            assert set(scopes) <= reach(verdict.token.scopes, role)
            assert (verdict.changed is not None) == (verdict.kind == "token-issued")
            assert verdict.kind or self.case.record == before, "a new name is no change"
            self.now_lives(role)
            return
        if isinstance(verdict, policy.Deny):
            assert candidate
            assert not opens or not set(scopes) <= reach(self.live[role][1], role)
            return
        assert not may
        assert not candidate or opens
        self.was_asked(verdict, waiting, scopes, claim)

    def was_asked(self, verdict: policy.Ask, waiting: str, scopes: list[str], claim: Claim) -> None:
        """Check a pending outcome against the previous pending request."""
        pending, role = verdict.pending, claim.role
        shown = self.shown.get(waiting, [])
        is_shown = len(shown) == ASKING_LIMIT or any(row.shows(claim) for row in shown)
        roles, stands_for = self.requests.get(waiting, ((), ()))
        adds_nothing = role in roles and set(scopes) <= set(stands_for) | reach(stands_for, role)
        if pending.request_id == waiting:
            assert adds_nothing
            assert is_shown
            assert not verdict.superseded
            return
        assert not (adds_nothing and is_shown)
        self.renamed[pending.request_id] = self.renamed.get(waiting, 0) + adds_nothing
        assert self.renamed[pending.request_id] < ASKING_LIMIT, "it alternates no more after that"
        assert set(roles) | {role} == set(pending.roles)
        assert pending.request_id not in self.requests, "an id is never used again"
        assert verdict.superseded == waiting
        assert role in pending.roles
        if waiting:
            self.over.add(waiting)
        asked = set(scopes) | self.asked_for.get(waiting, set())
        assert set(pending.scopes) == asked
        self.asked_for[pending.request_id] = asked
        self.requests[pending.request_id] = (pending.roles, pending.scopes)
        newest = next((row for row in shown if row.shows(claim)), claim)
        others = [row for row in shown if row != newest]
        self.shown[pending.request_id] = [newest, *others][:ASKING_LIMIT]

    @rule(key=st.just("another"), role=st.sampled_from(ROLES))
    @precondition(lambda self: self.case.record is not None)
    def somebody_else_connects_in_its_name(self, key: str, role: str) -> None:
        """Check that a client with another key changes nothing."""
        before = self.case.record
        asked: dict[str, Any] = {"role": role, "public_key": Device.new().public_key}
        for token in ("", self.candidate("live", role)):
            assert self.case.deny(token=token, **asked) == "key-mismatch"
        assert self.case.record == before

    @rule(seconds=st.sampled_from((0.001, 9.0, 11.0, TTL_MS / 2000, TTL_MS / 1000)))
    def time_passes(self, seconds: float) -> None:
        """Advance time by up to the lifetime of a request."""
        self.case.now_ms += int(seconds * 1000)

    @rule()
    @precondition(lambda self: self.open_request())
    def operator_approves(self) -> None:
        """Approval grants exactly what was shown."""
        pending = self.case.pending
        assert pending is not None
        roles, scopes = self.requests[pending.request_id]
        prefixes = tuple(f"{role}." for role in roles)
        sound = all(scope.startswith(prefixes) and scope == scope.strip() for scope in scopes)
        assert (pairing.scope_outside_roles(pending) is None) == sound
        if not sound:
            return
        others = [role for role in self.live if role not in roles]
        self.dead |= {self.live.pop(role)[0] for role in roles if role in self.live}
        self.case.approve()
        self.over.add(pending.request_id)
        self.approved |= set(scopes)
        shown = self.shown[pending.request_id]
        replaced = {(row.role, row.client) for row in shown}
        stored = [
            item for item in self.approved_as or () if (item.role, item.client) not in replaced
        ]
        apart_from_names = {item._replace(name=""): item for item in reversed([*shown, *stored])}
        self.approved_as = sorted(apart_from_names.values(), key=[*shown, *stored].index)
        self.approved_as = self.approved_as[:APPROVED_LIMIT]
        assert claims(identities_of(self.case.pairing)) == self.approved_as
        assert len(self.case.pairing.others) < APPROVED_LIMIT
        for role in roles:
            self.now_lives(role)
        assert all(self.case.token(role) == self.live[role][0] for role in others)

    @rule()
    @precondition(lambda self: self.open_request())
    def operator_rejects(self) -> None:
        """Rejection changes nothing else."""
        record = self.case.record
        assert record is not None
        assert record.pending is not None
        self.over.add(record.pending.request_id)
        self.case.record = pairing.without_pending(record)

    @rule()
    @precondition(lambda self: self.approved_as is not None)
    def operator_removes(self) -> None:
        """After removal no token of the device is valid."""
        if self.open_request():
            self.over.add(self.open_request())
        self.case.record = None
        self.approved, self.approved_as = frozenset(), None
        self.dead |= {token for token, _ in self.live.values()}
        self.live.clear()

    @rule(role=st.sampled_from(ROLES), narrower=st.booleans(), data=st.data())
    def operator_rotates(self, role: str, data: st.DataObject, *, narrower: bool) -> None:
        """Rotate to the same scopes, or others within the approved ones."""
        if role not in self.live:
            return
        allowed = sorted(reach(self.approved, role))
        scopes = None
        if narrower and allowed:
            scopes = data.draw(st.lists(st.sampled_from(allowed), max_size=3))
        old, stored = self.live.pop(role)
        self.dead.add(old)
        self.case.rotate(role, scopes)
        self.now_lives(role)
        now = set(self.live[role][1])
        assert now == set(stored) if scopes is None else set(scopes) <= now <= reach(scopes, role)

    @rule(role=st.sampled_from(ROLES))
    def operator_revokes(self, role: str) -> None:
        """Revoke a role's token until the role is approved again."""
        if role in self.live:
            self.case.revoke(role)
            self.dead.add(self.live.pop(role)[0])

    @invariant()
    def a_request_stands_for_what_it_stood_for(self) -> None:
        """Check that a request id keeps its meaning, and an ended one never returns."""
        pending = self.case.pending
        if pending is not None:
            assert (pending.roles, pending.scopes) == self.requests[pending.request_id]
            assert claims(identities_of(pending)) == self.shown[pending.request_id]
            assert pending.request_id not in self.over

    @invariant()
    def what_is_approved_is_what_was_approved(self) -> None:
        """Only an approval extends the approved scopes."""
        if self.approved_as is None:
            assert self.case.record is None or self.case.record.pairing is None
            return
        assert set(self.case.pairing.scopes) == self.approved
        assert set(self.case.pairing.effective_roles) == self.live.keys()

    @invariant()
    def a_dead_token_opens_nothing(self) -> None:
        """Check that an invalid token is refused, and a valid one for another role."""
        if self.approved_as is None:
            return
        for role, token in self.case.pairing.tokens.items():
            others = self.dead | {live for key, (live, _) in self.live.items() if key != role}
            for candidate in others:
                assert not KEYS.verify(candidate, self.case.device.device_id, role, token.token_id)

    def candidate(self, kind: str, role: str) -> str:
        """Return a device token of this kind, or an empty string."""
        other = "node" if role == "operator" else "operator"
        found = {
            "live": self.live.get(role, ("", ()))[0],
            "other role's": self.live.get(other, ("", ()))[0],
            "dead": next(iter(sorted(self.dead)), ""),
            "wrong": "wrong",
        }
        return found.get(kind, "")

    def open_request(self) -> str:
        """Return the id of the unexpired pending request, or an empty string."""
        pending = self.case.pending
        if pending is None or pending.expired(self.case.now_ms, TTL_MS):
            return ""
        return pending.request_id

    def now_lives(self, role: str) -> None:
        """Record a role's current token; a different previous one becomes invalid."""
        token = self.case.token(role)
        assert token not in self.dead
        before = self.live.get(role)
        if before is not None and before[0] != token:
            self.dead.add(before[0])
        self.live[role] = (token, self.case.pairing.tokens[role].scopes)


def claims(identities: Iterable[Identity]) -> list[Claim]:
    """Return identities as claims."""
    return [
        Claim(
            identity.role,
            (identity.client_id, identity.client_mode),
            identity.platform,
            identity.display_name,
        )
        for identity in identities
    ]


TestPairing = Pairing.TestCase
TestPairing.settings = settings(max_examples=150, stateful_step_count=40)
