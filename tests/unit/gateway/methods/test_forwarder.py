"""A call from its socket to approval and back, and the limit on calls in flight."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.methods.dispatcher import MethodCall
from services.gateway.methods.forwarder import (
    IN_FLIGHT_LIMIT,
    RETRY_MAX_MS,
    RETRY_MIN_MS,
    Forwarder,
)
from services.gateway.metrics import Metrics
from shared.bus.errors import Unavailable
from shared.rpc.messages import CallerInfo, Error, Position, Result
from tests.support.clock import turns
from tests.unit.gateway.fake_connections import DEVICE_ID, FakeSessions, closes, texts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.approval.client import Then
    from services.gateway.connections.connection import Connection
    from shared.rpc.messages import AuthorizeDevice, Call, Outcome, ReportSecret

PAIRING = "operator.pairing"
LIST = "device.pair.list"
DONE = Result(Position(), b'{"done":true}')


class OpenApprovals:
    """Approval that answers on demand."""

    def __init__(self) -> None:
        self.asked: list[Call] = []
        self.outcomes: list[asyncio.Future[Outcome]] = []

    def request(self, question: AuthorizeDevice | ReportSecret, then: Then) -> None:
        """Fail: no client is admitted here."""
        raise AssertionError(question, then)

    async def call(self, call: Call) -> Outcome:
        """Record the call, and wait for the test."""
        self.asked.append(call)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.outcomes.append(outcome)
        return await outcome

    def require_lease(self) -> None:
        """Fail: no client is admitted here."""
        raise AssertionError


class ForwarderCase:
    """Calls of a gateway's sessions."""

    def __init__(self) -> None:
        self.sessions = FakeSessions()
        self.approvals = OpenApprovals()
        self.metrics = Metrics()
        self.calls = Forwarder(self.approvals, self.sessions.connections, self.metrics)

    async def start(self, connection: Connection, frame_id: str = "1", **params: Any) -> None:
        """Start a call, and let it reach approval."""
        assert connection.session is not None
        self.calls.start(connection, connection.session, MethodCall(frame_id, LIST, params))
        await turns()

    async def end(self, number: int, outcome: Outcome | Exception = DONE) -> None:
        """Let approval answer a call."""
        future = self.approvals.outcomes[number]
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        await turns()

    def counted(self, outcome: str) -> float:
        """Return how many calls ended with this outcome."""
        labels = {"method": LIST, "outcome": outcome}
        return self.metrics.registry.get_sample_value("latchkey_gateway_calls_total", labels) or 0


@pytest.fixture
async def case() -> AsyncIterator[ForwarderCase]:
    case = ForwarderCase()
    yield case
    await case.calls.stop()


class TestAsked:
    async def test_a_call_names_its_caller_to_approval(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING, protocol=3, method="device-token")
        await case.start(connection, requestId="r")
        await case.start(connection)
        first, second = case.approvals.asked
        assert (first.method, first.params, first.protocol) == (LIST, {"requestId": "r"}, 3)
        assert first.caller == CallerInfo(
            "device-token", f"device {DEVICE_ID}", "operator", [PAIRING], DEVICE_ID, "the span"
        )
        assert first.call_id == "boot:1/1"
        assert second.call_id == "boot:1/2"

    async def test_callers_with_the_gateway_token_are_named(self, case: ForwarderCase) -> None:
        with_device = case.sessions.enter(PAIRING)
        without = case.sessions.enter(PAIRING, device_id="")
        for device in (with_device, without):
            await case.start(device)
        callers = [call.caller for call in case.approvals.asked]
        assert [caller.kind for caller in callers] == ["shared-secret", "shared-secret"]
        assert [caller.device_id for caller in callers] == [DEVICE_ID, ""]
        assert callers[1].name == "gateway token from 203.0.113.7"


class TestAnswered:
    async def test_answers_may_arrive_in_any_order(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING)
        for frame_id in ("a", "b", "c"):
            await case.start(connection, frame_id)
        for number in (2, 0, 1):
            await case.end(number)
        assert texts(connection) == [
            {"type": "res", "id": frame_id, "ok": True, "payload": {"done": True}}
            for frame_id in ("c", "a", "b")
        ]
        assert case.counted("returned") == 3

    async def test_a_packed_result_is_unpacked(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING)
        await case.start(connection)
        await case.end(0, Result(Position(), zlib.compress(b'["long"]'), packed=True))
        assert texts(connection)[0]["payload"] == ["long"]

    async def test_a_failed_call_returns_the_error(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING)
        await case.start(connection)
        await case.start(connection)
        await case.end(0, Error("FORBIDDEN", "no", {"code": "MISSING_SCOPE"}))
        await case.end(1, Error("INVALID_REQUEST", "unknown requestId"))
        assert [message["error"] for message in texts(connection)] == [
            {"code": "FORBIDDEN", "message": "no", "details": {"code": "MISSING_SCOPE"}},
            {"code": "INVALID_REQUEST", "message": "unknown requestId"},
        ]
        assert case.counted("failed") == 2

    async def test_a_call_without_an_answer_is_unavailable(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING)
        await case.start(connection)
        await case.end(0, Unavailable("timeout"))
        (body,) = texts(connection)
        error = body["error"]
        assert (body["ok"], error["code"], error["retryable"]) == (False, "UNAVAILABLE", True)
        assert RETRY_MIN_MS <= error["retryAfterMs"] <= RETRY_MAX_MS
        assert error["details"]["dependency"] == "approval"
        assert closes(connection) == []
        assert case.counted("unavailable") == 1

    async def test_without_a_lease_no_result_is_sent(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING)
        await case.start(connection)
        case.sessions.leased = lambda: False
        await case.end(0)
        assert (texts(connection), closes(connection)) == ([], [(1013, "approval unavailable")])

    async def test_nothing_is_sent_to_a_client_that_left(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING)
        await case.start(connection)
        case.sessions.connections.reply_close(connection, 1000)
        case.sessions.connections.lost(connection)
        await case.end(0)
        assert texts(connection) == []
        assert connection.calls == set()


class TestCallsInFlightAreLimited:
    async def test_calls_beyond_the_limit_are_refused_at_once(self, case: ForwarderCase) -> None:
        one, other = case.sessions.enter(PAIRING), case.sessions.enter(PAIRING)
        for number in range(IN_FLIGHT_LIMIT + 4):
            await case.start(one, f"n{number}")
        assert [message["id"] for message in texts(one)] == ["n16", "n17", "n18", "n19"]
        for message in texts(one):
            assert message["error"]["code"] == "UNAVAILABLE"
            assert message["error"]["details"]["reason"] == "overloaded"
        assert len(case.approvals.asked) == IN_FLIGHT_LIMIT
        await case.start(other)
        assert texts(other) == [], "others have their own limit"
        await case.end(3)
        await case.start(one, "again")
        assert len(case.approvals.asked) == IN_FLIGHT_LIMIT + 2
        assert case.counted("unavailable") == 4


class TestCallersClosedDuringACall:
    async def test_a_client_that_ended_itself_receives_that_result_only(
        self, case: ForwarderCase
    ) -> None:
        connection = case.sessions.enter(PAIRING)
        await case.start(connection, "the end")
        await case.start(connection, "another")
        case.sessions.connections.close_device(DEVICE_ID, ["*"], case.approvals.asked[0].call_id)
        await case.end(1)
        assert texts(connection) == []
        await case.end(0)
        assert [message["id"] for message in texts(connection)] == ["the end"]
        assert closes(connection) == [(4001, "device removed")]

    async def test_a_client_ended_by_another_receives_no_result(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING)
        await case.start(connection)
        case.sessions.connections.close_device(DEVICE_ID, ["*"], "boot:9/1")
        await case.end(0)
        assert (texts(connection), closes(connection)) == ([], [(4001, "device removed")])


class TestStop:
    async def test_gives_up_what_is_under_way(self, case: ForwarderCase) -> None:
        connection = case.sessions.enter(PAIRING)
        await case.start(connection)
        await case.calls.stop()
        assert case.approvals.outcomes[0].cancelled()
        assert texts(connection) == []
