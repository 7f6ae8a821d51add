"""Every kind of frame after hello-ok, in both protocols."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from shared.device.handshake import Credentials
from shared.device.profile import CLI, CLI_3, NODE_HOST, NODE_HOST_3
from shared.protocol.methods import METHODS, Method
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.support.websocket.raw_socket import BINARY, TEXT

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tests.support.websocket.raw_socket import RawSocket

UNAUTHORIZED_CALLS_LIMIT = 10
LIMITED = CLI.with_scopes("operator.read")
LIMITED_3 = CLI_3.with_scopes("operator.read")
ADMIN = CLI.with_scopes("operator.admin")
ADMIN_3 = CLI_3.with_scopes("operator.admin")
PAIRING = CLI.with_scopes("operator.pairing")
PAIRING_3 = CLI_3.with_scopes("operator.pairing")
NOTHING = CLI.with_scopes()
NOTHING_3 = CLI_3.with_scopes()

PROTOCOLS = ["protocol 4", "protocol 3"]


async def said_to(raw: RawSocket, frame: object, opcode: int = TEXT) -> Any:
    """Return the answer to a frame, None if it is ignored; the socket must stay open."""
    await raw.send(frame if isinstance(frame, bytes) else json.dumps(frame).encode(), opcode)
    await raw.send_json({"type": "req", "id": "afterwards", "method": "health"})
    answer = await raw.receive_text()
    if answer["id"] == "afterwards":
        return None
    afterwards = await raw.receive_text()
    assert (afterwards["id"], afterwards["ok"]) == ("afterwards", True)
    return answer


def request(method: str, **more: object) -> dict[str, object]:
    return {"type": "req", "id": "1", "method": method, **more}


def invalid(message: str, frame_id: str = "1") -> dict[str, object]:
    return {
        "type": "res",
        "id": frame_id,
        "ok": False,
        "error": {"code": "INVALID_REQUEST", "message": message},
    }


both = pytest.mark.parametrize("profile", [LIMITED, LIMITED_3], ids=PROTOCOLS)


class TestBrokenFrames:
    @both
    @pytest.mark.parametrize(
        ("frame", "answered_as", "problem"),
        [
            ({"type": "req", "id": "1"}, "1", "must have required property 'method'"),
            ({"type": "req", "method": "health"}, "invalid", "must have required property 'id'"),
            (
                {"type": "event", "event": "tick", "id": "1", "method": "health"},
                "invalid",
                "at /type: must be equal to one of the allowed values",
            ),
            ([], "invalid", "must be object"),
            ([{"type": "req", "id": "1", "method": "health"}], "invalid", "must be object"),
            ("text", "invalid", "must be object"),
            (None, "invalid", "must be object"),
            (
                {"type": "req", "id": 7, "method": "health"},
                "invalid",
                "at /id: must be string",
            ),
            (
                {"type": "req", "id": "", "method": "health"},
                "invalid",
                "at /id: must not have fewer than 1 characters",
            ),
            (
                {"type": "req", "id": "1", "method": ""},
                "1",
                "at /method: must not have fewer than 1 characters",
            ),
            (
                {"type": "req", "id": "1", "method": "health", "traceparent": "x" * 129},
                "1",
                "at /traceparent: must not have more than 128 characters",
            ),
        ],
    )
    async def test_invalid_requests_are_answered_and_the_connection_stays(
        self,
        harness: GatewayHarness,
        profile: Profile,
        frame: object,
        answered_as: str,
        problem: str,
    ) -> None:
        raw, _ = await harness.admitted(profile)
        expected = invalid(f"invalid request frame: {problem}", answered_as)
        assert await said_to(raw, frame) == expected

    @both
    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"hello",
            b"{",
            b'{"type":"req","id":"1","method":"health"',
            b'{"type":"req","id":"1","method":"health"} {}',
            b'{"type":"req","id":"\xff","method":"health"}',
            b'{"type":"req","id":"\xed\xa0\x80","method":"health"}',
            b"[" * 5000 + b"]" * 5000,
            b'{"type":"req","id":"1","method":"health","params":'
            + b"[" * 5000
            + b"]" * 5000
            + b"}",
        ],
        ids=[
            *("empty", "word", "unclosed", "cut", "two values"),
            *("not UTF-8", "surrogate", "deep", "deep inside"),
        ],
    )
    async def test_what_is_not_json_is_ignored(
        self, harness: GatewayHarness, profile: Profile, text: bytes
    ) -> None:
        raw, _ = await harness.admitted(profile)
        assert await said_to(raw, text) is None

    @both
    async def test_a_binary_frame_is_ignored(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        assert await said_to(raw, request("health"), BINARY) is None

    @both
    async def test_the_last_of_two_equal_keys_counts(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        text = b'{"type":"req","id":"1","method":"nope","id":"2","method":"health"}'
        answer = await said_to(raw, text)
        assert (answer["id"], answer["ok"]) == ("2", True)


class TestSecondConnect:
    @both
    async def test_a_second_connect_is_an_error_and_changes_nothing(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, connection = await harness.admitted(profile)
        session = connection.session
        assert session is not None
        before = (session.role, list(session.scopes), session.device_id, session.method)
        again = raw.connect_frame(
            None, replace(profile, scopes=("operator.admin",)), Credentials(token=TOKEN)
        )
        for frame in (again, request("connect"), {**again, "params": None}):
            answer = await said_to(raw, {**frame, "id": "again"})
            assert answer == invalid("connect is only valid as the first request", "again")
        assert connection.session is session
        assert (session.role, list(session.scopes), session.device_id, session.method) == before
        assert len(harness.approvals.asked) == 1
        assert harness.connections.close_device(session.device_id, ["*"], by_call="") == 1


class TestUnknownMethod:
    @pytest.mark.parametrize("profile", [ADMIN, ADMIN_3], ids=PROTOCOLS)
    async def test_an_unknown_method_is_named_to_an_administrator(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        assert await said_to(raw, request("nope.method")) == invalid("unknown method: nope.method")

    @pytest.mark.parametrize(
        "profile", [LIMITED, PAIRING, NOTHING], ids=["read", "pairing", "none"]
    )
    async def test_an_unknown_method_is_unauthorized_without_admin(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        assert await said_to(raw, request("nope.method")) == {
            "type": "res",
            "id": "1",
            "ok": False,
            "error": {
                "code": "FORBIDDEN",
                "message": "missing scope: operator.admin",
                "details": {
                    "code": "MISSING_SCOPE",
                    "missingScope": "operator.admin",
                    "requiredScopes": ["operator.admin"],
                },
            },
        }

    @pytest.mark.parametrize(
        "profile", [LIMITED_3, PAIRING_3, NOTHING_3], ids=["read", "pairing", "none"]
    )
    async def test_an_unknown_method_needs_admin_in_protocol_3(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        expected = invalid("missing scope: operator.admin")
        assert await said_to(raw, request("nope.method")) == expected


class TestMissingScope:
    """A method whose scope the caller lacks; the method for nodes exists only in this test."""

    @pytest.fixture(autouse=True)
    def _a_method_of_nodes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        method = Method(roles=frozenset({"node"}), scope=None)
        monkeypatch.setitem(cast("dict[str, Method]", METHODS), "test.node", method)

    @pytest.mark.parametrize("profile", [LIMITED, NOTHING], ids=["read", "none"])
    async def test_a_method_without_its_scope_is_forbidden(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        answer = await said_to(raw, request("device.pair.list"))
        assert answer["error"] == {
            "code": "FORBIDDEN",
            "message": "missing scope: operator.pairing",
            "details": {
                "code": "MISSING_SCOPE",
                "missingScope": "operator.pairing",
                "requiredScopes": ["operator.pairing"],
            },
        }

    async def test_a_missing_scope_is_invalid_in_protocol_3(self, harness: GatewayHarness) -> None:
        raw, _ = await harness.admitted(LIMITED_3)
        expected = invalid("missing scope: operator.pairing")
        assert await said_to(raw, request("device.pair.list")) == expected

    @pytest.mark.parametrize("profile", [PAIRING, PAIRING_3, ADMIN, ADMIN_3])
    async def test_a_caller_with_the_scope_or_admin_is_served(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        answer = await said_to(raw, request("device.pair.list"))
        assert (answer["ok"], answer["payload"]) == (True, {"done": True})

    @both
    async def test_an_operator_may_not_call_a_method_of_nodes(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        expected = invalid("unauthorized role: operator")
        assert await said_to(raw, request("test.node")) == expected

    async def test_without_a_device_nothing_but_health_is_served(
        self, harness: GatewayHarness
    ) -> None:
        raw = await harness.raw()
        hello = await raw.connect(None, ADMIN, Credentials(token=TOKEN))
        assert hello["payload"]["auth"]["scopes"] == []
        answer = await said_to(raw, request("device.pair.list"))
        assert answer["error"]["code"] == "FORBIDDEN"


class TestRoles:
    @pytest.mark.parametrize("profile", [NODE_HOST, NODE_HOST_3], ids=PROTOCOLS)
    async def test_a_node_may_not_call_what_is_for_operators(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        expected = invalid("unauthorized role: node")
        assert await said_to(raw, request("nope.method")) == expected

    @pytest.mark.parametrize("profile", [NODE_HOST, NODE_HOST_3], ids=PROTOCOLS)
    async def test_after_more_than_10_in_a_row_it_is_closed(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw, _ = await harness.admitted(profile)
        for _ in range(UNAUTHORIZED_CALLS_LIMIT):
            await raw.send_json(request("nope.method"))
            assert await raw.receive_text() == invalid("unauthorized role: node")
        await raw.send_json(request("nope.method"))
        assert await raw.receive_text() == invalid("unauthorized role: node")
        assert await raw.closed() == (1008, "repeated unauthorized calls")

    async def test_an_authorized_call_restarts_the_count(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted(NODE_HOST)
        for _ in range(3):
            for _ in range(UNAUTHORIZED_CALLS_LIMIT):
                await raw.send_json(request("nope.method"))
                assert not (await raw.receive_text())["ok"]
            await raw.send_json(request("health"))
            assert (await raw.receive_text())["ok"]
        assert not connection.closing

    @pytest.mark.parametrize(
        "profile", [NOTHING, NOTHING_3, LIMITED, NODE_HOST, NODE_HOST_3, ADMIN]
    )
    async def test_health_needs_no_scope(self, harness: GatewayHarness, profile: Profile) -> None:
        raw, _ = await harness.admitted(profile)
        for frame in (request("health"), request("health", params={})):
            answer = await said_to(raw, frame)
            assert answer["ok"]
            assert answer["payload"]["ok"] is True
            assert isinstance(answer["payload"]["ts"], int)


class TestManyAtOnce:
    async def test_each_request_gets_its_own_answer(self, harness: GatewayHarness) -> None:
        raw, _ = await harness.admitted(LIMITED)
        for number in range(200):
            await raw.send_json({"type": "req", "id": f"n{number}", "method": "health"})
        answers = [await raw.receive_text() for _ in range(200)]
        assert [answer["id"] for answer in answers] == [f"n{number}" for number in range(200)]

    async def test_nothing_is_served_after_our_close(self, harness: GatewayHarness) -> None:
        raw, connection = await harness.admitted(LIMITED)
        harness.connections.close(connection, 4001, "device removed")
        await raw.send_json(request("health"))
        assert await raw.closed() == (4001, "device removed")
        await harness.pass_time(2)
        assert await raw.rest() == []
