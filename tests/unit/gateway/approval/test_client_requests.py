"""Which requests are sent to approval, and how long an answer may take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.gateway.approval.client import WRITTEN_WITHIN_SECONDS
from shared.bus.errors import Unavailable
from shared.rpc.messages import (
    SHARED_SECRET,
    Admitted,
    Answer,
    AuthorizeDevice,
    Changed,
    ClientInfo,
    Position,
    ReportSecret,
    SecretAccepted,
    encode,
)
from shared.rpc.requester import DEADLINE_SECONDS
from tests.support.clock import FakeClock, outcome, run_virtual
from tests.unit.gateway.approval.client_case import HEAD, ApprovalClientCase
from tests.unit.rpc.fake_bus import reasons

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus.envelope import Opened

QUESTION = AuthorizeDevice(
    call_id="boot:1",
    device_id="device",
    public_key="key",
    role="operator",
    scopes=[],
    client=ClientInfo("cli", "cli", "1", "linux"),
    method="token",
    address="203.0.113.7",
    protocol=4,
)
REPORT = ReportSecret("boot:2", "203.0.113.7", [SHARED_SECRET], right=False)


def admitted_at(change: Position) -> Admitted:
    """Return an admission."""
    return Admitted(change, "device token", [], 1)


class ScriptedCase(ApprovalClientCase):
    """Approvals that receive requests for clients; `asked` are the requests."""

    def __init__(self, clock: FakeClock, approvals: int = 1) -> None:
        super().__init__(clock, approvals)
        self.asked: list[AuthorizeDevice | ReportSecret] = []
        self.answer: Callable[[AuthorizeDevice], Answer] = lambda _question: admitted_at(HEAD)

    async def ask(self, question: AuthorizeDevice | ReportSecret) -> Answer:
        """Send a request, and wait for its outcome."""
        answered: asyncio.Future[Answer | Unavailable] = asyncio.get_running_loop().create_future()
        self.approvals.request(question, answered.set_result)
        answer = await answered
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    def answer_to(self, question: object) -> bytes:
        """Return the answer to an AuthorizeDevice; a ReportSecret is accepted."""
        assert isinstance(question, AuthorizeDevice | ReportSecret)
        self.asked.append(question)
        return encode(
            SecretAccepted(HEAD) if isinstance(question, ReportSecret) else self.answer(question)
        )


class TestBeforeTheFirstAnsweredHeartbeat:
    """Without the store's clock a request could not state its expiry (R11)."""

    @pytest.mark.parametrize("question", [QUESTION, REPORT])
    def test_nothing_is_asked_for_a_client(self, question: AuthorizeDevice | ReportSecret) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            refused = await outcome(case.ask(question))
            assert reasons([refused]) == {("no-lease", "approval"): 1}
            assert case.asked == []

        run_virtual(scenario)

    @pytest.mark.parametrize("redis_ok", [True, False])
    def test_what_is_missing_below_it_is_named(self, *, redis_ok: bool) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock, approvals=0)
            case.gateway.redis_ok = redis_ok
            refused = await outcome(case.ask(QUESTION))
            named = ("no-responder", "approval") if redis_ok else ("redis", "redis")
            assert reasons([refused]) == {named: 1}
            assert case.gateway.board.published == []

        run_virtual(scenario)

    def test_a_redis_lost_again_is_named_although_an_approval_was_heard(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            case.gateway.redis_ok = False
            refused = await outcome(case.ask(QUESTION))
            assert reasons([refused]) == {("redis", "redis"): 1}

        run_virtual(scenario)

    def test_afterwards_each_question_says_it(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            assert await case.ask(QUESTION) == admitted_at(HEAD)
            assert await case.ask(REPORT) == SecretAccepted(HEAD)
            void_ms = case.store_ms + WRITTEN_WITHIN_SECONDS * 1000
            assert [asked.not_after_ms for asked in case.asked] == [void_ms, void_ms]

        run_virtual(scenario)


class TestWhenAnAnswerCounts:
    @pytest.mark.parametrize("about", [QUESTION.device_id, "another device"])
    def test_events_of_the_device_in_the_same_turn_come_first(self, about: str) -> None:
        """A revoke that arrives after the answer and before its client is admitted (R6)."""

        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            deliver = case.gateway.requester.deliver

            def deliver_and_hear(message: Opened) -> None:
                deliver(message)
                if len(case.asked) == 1 and not case.beat.behind:
                    revoked = Position(HEAD.number + 1, "revoked")
                    case.beater.on_event(Changed(revoked, HEAD.tag, about, "removed", 0, ["*"]))

            case.gateway.requester.deliver = deliver_and_hear  # type: ignore[method-assign]
            case.answer = lambda _question: admitted_at(case.beat.applied)
            answer = await case.ask(QUESTION)
            asked_anew = about == QUESTION.device_id
            assert len(case.asked) == 1 + asked_anew
            assert answer == admitted_at(
                Position(HEAD.number + 1, "revoked") if asked_anew else HEAD
            )

        run_virtual(scenario)


class TestDeadline:
    """One deadline covers everything that a request leads to."""

    @pytest.mark.parametrize(
        "decided_at",
        [Position(HEAD.number + 1, "ahead"), Position(HEAD.number, "of another history")],
        ids=["what is not applied here", "another history"],
    )
    @pytest.mark.parametrize("answered_after", [0, 0.4, 1.5])
    def test_the_answer_has_to_count_within_it(
        self, decided_at: Position, answered_after: float
    ) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock, approvals=4)
            await case.first_beat()
            case.late_seconds = answered_after
            case.answer = lambda _question: admitted_at(decided_at)
            began = clock.monotonic()
            refused = await outcome(case.ask(QUESTION))
            assert reasons([refused]) == {("timeout", "approval"): 1}
            assert clock.monotonic() - began <= DEADLINE_SECONDS

        run_virtual(scenario)

    def test_what_comes_to_count_in_time_is_the_answer(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock, approvals=4)
            await case.first_beat()
            case.late_seconds = 1.5
            late = Position(HEAD.number + 1, "ahead")
            case.answer = lambda _question: admitted_at(late)
            asking = asyncio.create_task(case.ask(QUESTION))
            await asyncio.sleep(DEADLINE_SECONDS - 0.1)
            case.beater.on_event(Changed(late, HEAD.tag, "another device", "renamed", 0))
            assert await asking == admitted_at(late)

        run_virtual(scenario)

    def test_without_any_answer_the_reason_is_what_the_bus_says(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            case.gateway.board.redis_hangs = True
            began = clock.monotonic()
            refused = await outcome(case.ask(QUESTION))
            assert reasons([refused]) == {("redis", "redis"): 1}
            assert clock.monotonic() - began <= DEADLINE_SECONDS

        run_virtual(scenario)

    def test_a_process_that_was_stopped_takes_no_answer_from_before(self) -> None:
        """It handles input that arrived meanwhile before its timers (R7)."""

        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()

            def stopped_meanwhile(_question: AuthorizeDevice) -> Answer:
                clock.advance(DEADLINE_SECONDS + 1)
                return admitted_at(HEAD)

            case.answer = stopped_meanwhile
            refused = await outcome(case.ask(QUESTION))
            assert reasons([refused]) == {("timeout", "approval"): 1}

        run_virtual(scenario)
