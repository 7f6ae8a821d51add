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
from tests.unit.gateway.fake_connections import DEVICE_ID, Room, closes, texts

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


class Desk:
    """Calls of a room's connections."""

    def __init__(self) -> None:
        self.room = Room()
        self.approvals = OpenApprovals()
        self.metrics = Metrics()
        self.calls = Forwarder(self.approvals, self.room.connections, self.metrics)

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
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.calls.stop()


class TestAsked:
    async def test_what_approval_is_told(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING, protocol=3, method="device-token")
        await desk.start(one, requestId="r")
        await desk.start(one)
        first, second = desk.approvals.asked
        assert (first.method, first.params, first.protocol) == (LIST, {"requestId": "r"}, 3)
        assert first.caller == CallerInfo(
            "device-token", f"device {DEVICE_ID}", "operator", [PAIRING], DEVICE_ID, "the span"
        )
        assert first.call_id == "boot:1/1"
        assert second.call_id == "boot:1/2"

    async def test_who_came_with_the_gateway_token(self, desk: Desk) -> None:
        with_device = desk.room.enter(PAIRING)
        without = desk.room.enter(PAIRING, device_id="")
        for one in (with_device, without):
            await desk.start(one)
        callers = [call.caller for call in desk.approvals.asked]
        assert [one.kind for one in callers] == ["shared-secret", "shared-secret"]
        assert [one.device_id for one in callers] == [DEVICE_ID, ""]
        assert callers[1].name == "gateway token from 203.0.113.7"


class TestAnswered:
    async def test_in_any_order(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        for frame_id in ("a", "b", "c"):
            await desk.start(one, frame_id)
        for number in (2, 0, 1):
            await desk.end(number)
        assert texts(one) == [
            {"type": "res", "id": frame_id, "ok": True, "payload": {"done": True}}
            for frame_id in ("c", "a", "b")
        ]
        assert desk.counted("returned") == 3

    async def test_packed(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        await desk.start(one)
        await desk.end(0, Result(Position(), zlib.compress(b'["long"]'), packed=True))
        assert texts(one)[0]["payload"] == ["long"]

    async def test_failed(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        await desk.start(one)
        await desk.start(one)
        await desk.end(0, Error("FORBIDDEN", "no", {"code": "MISSING_SCOPE"}))
        await desk.end(1, Error("INVALID_REQUEST", "unknown requestId"))
        assert [said["error"] for said in texts(one)] == [
            {"code": "FORBIDDEN", "message": "no", "details": {"code": "MISSING_SCOPE"}},
            {"code": "INVALID_REQUEST", "message": "unknown requestId"},
        ]
        assert desk.counted("failed") == 2

    async def test_a_call_without_an_answer_is_unavailable(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        await desk.start(one)
        await desk.end(0, Unavailable("timeout"))
        (said,) = texts(one)
        error = said["error"]
        assert (said["ok"], error["code"], error["retryable"]) == (False, "UNAVAILABLE", True)
        assert RETRY_MIN_MS <= error["retryAfterMs"] <= RETRY_MAX_MS
        assert error["details"]["dependency"] == "approval"
        assert closes(one) == []
        assert desk.counted("unavailable") == 1

    async def test_without_a_lease_no_result_is_sent(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        await desk.start(one)
        desk.room.leased = lambda: False
        await desk.end(0)
        assert (texts(one), closes(one)) == ([], [(1013, "approval unavailable")])

    async def test_who_left_meanwhile_is_told_nothing(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        await desk.start(one)
        desk.room.connections.reply_close(one, 1000)
        desk.room.connections.lost(one)
        await desk.end(0)
        assert texts(one) == []
        assert one.calls == set()


class TestCallsInFlightAreLimited:
    async def test_calls_beyond_the_limit_are_refused_at_once(self, desk: Desk) -> None:
        one, other = desk.room.enter(PAIRING), desk.room.enter(PAIRING)
        for number in range(IN_FLIGHT_LIMIT + 4):
            await desk.start(one, f"n{number}")
        assert [said["id"] for said in texts(one)] == ["n16", "n17", "n18", "n19"]
        for said in texts(one):
            assert said["error"]["code"] == "UNAVAILABLE"
            assert said["error"]["details"]["reason"] == "overloaded"
        assert len(desk.approvals.asked) == IN_FLIGHT_LIMIT
        await desk.start(other)
        assert texts(other) == [], "others have their own room"
        await desk.end(3)
        await desk.start(one, "again")
        assert len(desk.approvals.asked) == IN_FLIGHT_LIMIT + 2
        assert desk.counted("unavailable") == 4


class TestCallersClosedDuringACall:
    async def test_a_client_that_ended_itself_receives_that_result_only(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        await desk.start(one, "the end")
        await desk.start(one, "another")
        desk.room.connections.close_device(DEVICE_ID, ["*"], desk.approvals.asked[0].call_id)
        await desk.end(1)
        assert texts(one) == []
        await desk.end(0)
        assert [said["id"] for said in texts(one)] == ["the end"]
        assert closes(one) == [(4001, "device removed")]

    async def test_a_client_ended_by_another_receives_no_result(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        await desk.start(one)
        desk.room.connections.close_device(DEVICE_ID, ["*"], "boot:9/1")
        await desk.end(0)
        assert (texts(one), closes(one)) == ([], [(4001, "device removed")])


class TestStop:
    async def test_gives_up_what_is_under_way(self, desk: Desk) -> None:
        one = desk.room.enter(PAIRING)
        await desk.start(one)
        await desk.calls.stop()
        assert desk.approvals.outcomes[0].cancelled()
        assert texts(one) == []
