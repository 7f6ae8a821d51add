"""Whatever a device asks and an operator does, in whatever order, the rules hold."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.approval import grants, policy
from shared.protocol.signing import normalised_metadata
from tests.unit.approval.desk import KEYS, TTL_MS, Desk
from tests.unit.approval.devices import Device
from tests.unit.approval.wishes import PLATFORMS, ROLES, reach, wishes


class Pairing(RuleBasedStateMachine):
    """One device, its operator, and what has been approved so far according to the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.approved: frozenset[str] = frozenset()
        self.approved_as: dict[str, str] | None = None
        """Platform and family as approved; None: not paired."""
        self.live: dict[str, tuple[str, tuple[str, ...]]] = {}
        """By role, the device token that opens, and its scopes."""
        self.dead: set[str] = set()
        """Tokens that must never open anything again."""
        self.requests: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        """By request id, the roles and scopes it stood for when it was made."""
        self.asked_for: dict[str, set[str]] = {}
        """By request id, all scopes that were asked for up to it."""
        self.over: set[str] = set()
        """Request ids that have ended."""

    @rule(
        wish=wishes,
        platform=st.sampled_from(PLATFORMS),
        name=st.sampled_from(("", "a", "b")),
        token=st.sampled_from(("none", "none", "live", "other role's", "dead", "wrong")),
    )
    def device_connects(
        self, wish: tuple[str, list[str]], platform: str, name: str, token: str
    ) -> None:
        """Judge a question, with or without a device token."""
        role, scopes = wish
        candidate = self.candidate(token, role)
        waiting = self.open_request()
        verdict = self.desk.judge(*scopes, role=role, platform=platform, name=name, token=candidate)
        opens = role in self.live and self.live[role][0] == candidate
        fits = self.approved_as is not None and self.same_device(platform)
        covered = set(scopes) <= reach(self.approved, role)
        may = fits and role in self.live and covered
        if isinstance(verdict, policy.Admit):
            assert may
            assert not candidate or (opens and set(scopes) <= reach(self.live[role][1], role))
            assert set(verdict.token.scopes) <= reach(self.approved, role)
            assert set(scopes) <= reach(verdict.token.scopes, role)
            self.now_lives(role)
            return
        if isinstance(verdict, policy.Deny):
            assert candidate
            assert not opens or not set(scopes) <= reach(self.live[role][1], role)
            return
        assert not may
        assert not candidate or opens
        self.was_asked(verdict, waiting, scopes, role)

    def was_asked(self, verdict: policy.Ask, waiting: str, scopes: list[str], role: str) -> None:
        """Check a verdict that a person has to decide, against the request that waited before."""
        pending = verdict.pending
        if pending.request_id == waiting:
            assert role == pending.role
            assert set(scopes) <= set(pending.scopes) | reach(pending.scopes, role)
            assert not verdict.superseded
            return
        assert pending.request_id not in self.requests, "an id is never used again"
        assert verdict.superseded == waiting
        assert role in pending.roles
        if waiting:
            self.over.add(waiting)
        asked = set(scopes) | self.asked_for.get(waiting, set())
        assert set(pending.scopes) == asked
        self.asked_for[pending.request_id] = asked
        self.requests[pending.request_id] = (pending.roles, pending.scopes)

    @rule(key=st.just("another"), role=st.sampled_from(ROLES))
    @precondition(lambda self: self.desk.record is not None)
    def somebody_else_connects_in_its_name(self, key: str, role: str) -> None:
        """Another key changes nothing, whatever it asks and brings."""
        before = self.desk.record
        asked: dict[str, Any] = {"role": role, "public_key": Device.new().public_key}
        for token in ("", self.candidate("live", role)):
            assert self.desk.deny(token=token, **asked) == "key-mismatch"
        assert self.desk.record == before

    @rule(seconds=st.sampled_from((0.001, 9.0, 11.0, TTL_MS / 2000, TTL_MS / 1000)))
    def time_passes(self, seconds: float) -> None:
        """Between a moment and the life of a request."""
        self.desk.now_ms += int(seconds * 1000)

    @rule()
    @precondition(lambda self: self.open_request())
    def operator_approves(self) -> None:
        """Grant what was shown, and all of it, and nothing else."""
        pending = self.desk.pending
        assert pending is not None
        roles, scopes = self.requests[pending.request_id]
        prefixes = tuple(f"{role}." for role in roles)
        sound = all(one.startswith(prefixes) and one == one.strip() for one in scopes)
        assert (grants.scope_outside_roles(pending) is None) == sound
        if not sound:
            return
        others = [role for role in self.live if role not in roles]
        self.dead |= {self.live.pop(role)[0] for role in roles if role in self.live}
        self.desk.approve()
        self.over.add(pending.request_id)
        self.approved |= set(scopes)
        self.approved_as = {
            "platform": pending.metadata.platform,
            "family": pending.metadata.device_family,
        }
        for role in roles:
            self.now_lives(role)
        assert all(self.desk.token(role) == self.live[role][0] for role in others)

    @rule()
    @precondition(lambda self: self.open_request())
    def operator_rejects(self) -> None:
        """Everything else stays."""
        record = self.desk.record
        assert record is not None
        assert record.pending is not None
        self.over.add(record.pending.request_id)
        self.desk.record = grants.without_pending(record)

    @rule()
    @precondition(lambda self: self.approved_as is not None)
    def operator_removes(self) -> None:
        """Nothing of it opens anything again."""
        if self.open_request():
            self.over.add(self.open_request())
        self.desk.record = None
        self.approved, self.approved_as = frozenset(), None
        self.dead |= {token for token, _ in self.live.values()}
        self.live.clear()

    @rule(role=st.sampled_from(ROLES), narrower=st.booleans(), data=st.data())
    def operator_rotates(self, role: str, data: st.DataObject, *, narrower: bool) -> None:
        """To the same scopes, or others within what is approved."""
        if role not in self.live:
            return
        allowed = sorted(reach(self.approved, role))
        scopes = None
        if narrower and allowed:
            scopes = data.draw(st.lists(st.sampled_from(allowed), max_size=3))
        old, kept = self.live.pop(role)
        self.dead.add(old)
        self.desk.rotate(role, scopes)
        self.now_lives(role)
        now = set(self.live[role][1])
        assert now == set(kept) if scopes is None else set(scopes) <= now <= reach(scopes, role)

    @rule(role=st.sampled_from(ROLES))
    def operator_revokes(self, role: str) -> None:
        """Until the role is approved again."""
        if role in self.live:
            self.desk.revoke(role)
            self.dead.add(self.live.pop(role)[0])

    @invariant()
    def a_request_stands_for_what_it_stood_for(self) -> None:
        """No id ever comes to mean more, and none that is over comes back."""
        pending = self.desk.pending
        if pending is not None:
            assert (pending.roles, pending.scopes) == self.requests[pending.request_id]
            assert pending.request_id not in self.over

    @invariant()
    def what_is_approved_is_what_was_approved(self) -> None:
        """Nothing but an approval adds to it."""
        if self.approved_as is None:
            assert self.desk.record is None or self.desk.record.pairing is None
            return
        assert set(self.desk.pairing.scopes) == self.approved
        assert set(self.desk.pairing.effective_roles) == self.live.keys()

    @invariant()
    def a_dead_token_opens_nothing(self) -> None:
        """Nor does a live one for another role."""
        if self.approved_as is None:
            return
        for role, token in self.desk.pairing.tokens.items():
            others = self.dead | {live for key, (live, _) in self.live.items() if key != role}
            for candidate in others:
                assert not KEYS.verify(candidate, self.desk.device.device_id, role, token.token_id)

    def candidate(self, kind: str, role: str) -> str:
        """Return a device token of this kind, or an empty text where there is none."""
        other = "node" if role == "operator" else "operator"
        found = {
            "live": self.live.get(role, ("", ()))[0],
            "other role's": self.live.get(other, ("", ()))[0],
            "dead": next(iter(sorted(self.dead)), ""),
            "wrong": "wrong",
        }
        return found.get(kind, "")

    def open_request(self) -> str:
        """Return the id of the request that waits and has not expired, or an empty text."""
        pending = self.desk.pending
        if pending is None or pending.expired(self.desk.now_ms, TTL_MS):
            return ""
        return pending.request_id

    def same_device(self, platform: str) -> bool:
        """Whether a device says the same of itself as when it was approved."""
        assert self.approved_as is not None
        known = self.approved_as["platform"]
        return not known or normalised_metadata(known) == normalised_metadata(platform)

    def now_lives(self, role: str) -> None:
        """Take over the token that a role has now; the one before is dead if it is another."""
        token = self.desk.token(role)
        assert token not in self.dead
        before = self.live.get(role)
        if before is not None and before[0] != token:
            self.dead.add(before[0])
        self.live[role] = (token, self.desk.pairing.tokens[role].scopes)


TestPairing = Pairing.TestCase
TestPairing.settings = settings(max_examples=150, stateful_step_count=40)
