"""How a request frame of an admitted client is handled: params and authorization."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.gateway.handshake.outcome import Session
from services.gateway.methods.dispatcher import Dispatcher, MethodCall, Reply
from shared.protocol.methods import METHODS
from tests.support.clock import FakeClock

ADMIN = "operator.admin"
APPROVE, REJECT = "device.pair.approve", "device.pair.reject"
REMOVE, RENAME = "device.pair.remove", "device.pair.rename"
ROTATE, REVOKE = "device.token.rotate", "device.token.revoke"
LIST = "device.pair.list"
SOUND: dict[str, dict[str, Any]] = {
    "status": {},
    "system-presence": {},
    "node.list": {},
    "node.describe": {"nodeId": "n"},
    LIST: {},
    APPROVE: {"requestId": "r"},
    REJECT: {"requestId": "r"},
    REMOVE: {"deviceId": "d"},
    RENAME: {"deviceId": "d", "label": "l"},
    ROTATE: {"deviceId": "d", "role": "operator"},
    REVOKE: {"deviceId": "d", "role": "operator"},
    "device.pair.setupCode": {"publicUrl": "wss://gw.example.com", "joinUrl": True},
    "device.pair.setupStatus": {"setupId": "s"},
}


def session(*scopes: str, protocol: int = 4, role: str = "operator") -> Session:
    """Return an admitted client."""
    return Session("boot:1", protocol, role, scopes or (ADMIN,), "device", "token")


def turn(method: str, params: bytes | None = None, caller: Session | None = None) -> Reply:
    """Serve one frame; params that are None are omitted."""
    text = b'{"type":"req","id":"1","method":"%s"' % method.encode()
    text += b"}" if params is None else b',"params":%s}' % params
    return Dispatcher(FakeClock()).on_frame(caller or session(), text)


def refusal(done: Reply) -> str:
    """Return the message of an outcome that refuses the params."""
    assert (done.call, done.close) == (None, None)
    assert done.frame is not None
    body = json.loads(done.frame)
    assert body.keys() == {"type", "id", "ok", "error"}
    assert (body["id"], body["ok"]) == ("1", False)
    assert body["error"].keys() == {"code", "message"}
    assert body["error"]["code"] == "INVALID_REQUEST"
    return str(body["error"]["message"])


class TestSound:
    def test_every_device_method_is_known(self) -> None:
        assert SOUND.keys() == METHODS.keys() - {"health"}

    @pytest.mark.parametrize("method", SOUND)
    def test_a_valid_call_is_passed_on(self, method: str) -> None:
        done = turn(method, json.dumps(SOUND[method]).encode())
        assert done == Reply(call=MethodCall("1", method, SOUND[method]))

    @pytest.mark.parametrize("method", [LIST, "status", "system-presence", "node.list"])
    def test_params_left_out_are_empty(self, method: str) -> None:
        assert turn(method) == Reply(call=MethodCall("1", method, {}))

    def test_scopes_of_a_rotation_are_passed_on(self) -> None:
        params = {**SOUND[ROTATE], "scopes": ["operator.read"]}
        assert turn(ROTATE, json.dumps(params).encode()).call == MethodCall("1", ROTATE, params)

    def test_the_last_of_two_equal_names_counts(self) -> None:
        done = turn(APPROVE, b'{"requestId":"shown","requestId":"meant"}')
        assert done.call == MethodCall("1", APPROVE, {"requestId": "meant"})

    def test_health_ignores_its_params(self) -> None:
        done = turn("health", b'{"anything":[1e999]}')
        assert done.frame is not None
        assert json.loads(done.frame)["ok"]


class TestParams:
    @pytest.mark.parametrize(
        ("method", "params", "problem"),
        [
            (APPROVE, None, "must have required property 'requestId'"),
            (APPROVE, {}, "must have required property 'requestId'"),
            (REJECT, {}, "must have required property 'requestId'"),
            (REMOVE, {}, "must have required property 'deviceId'"),
            (RENAME, {"label": "l"}, "must have required property 'deviceId'"),
            (RENAME, {"deviceId": "d"}, "must have required property 'label'"),
            (ROTATE, {"role": "operator"}, "must have required property 'deviceId'"),
            (ROTATE, {"deviceId": "d"}, "must have required property 'role'"),
            (REVOKE, {"deviceId": "d"}, "must have required property 'role'"),
            ("node.describe", {}, "must have required property 'nodeId'"),
            *(
                (method, {**sound, "x": 1}, "at root: unexpected property 'x'")
                for method, sound in SOUND.items()
            ),
            (LIST, {"y" * 100: 1}, f"at root: unexpected property '{'y' * 64}'"),
            (REVOKE, {**SOUND[REVOKE], "scopes": []}, "at root: unexpected property 'scopes'"),
            (
                RENAME,
                {"deviceId": "d", "label": "x" * 65},
                "at /label: must not have more than 64 characters",
            ),
            (
                RENAME,
                {"deviceId": "d", "label": ""},
                "at /label: must not have fewer than 1 characters",
            ),
            (RENAME, {"deviceId": "d", "label": 7}, "at /label: must be string"),
            (APPROVE, {"requestId": None}, "at /requestId: must be string"),
            (APPROVE, {"requestId": ["r"]}, "at /requestId: must be string"),
            (
                APPROVE,
                {"requestId": ""},
                "at /requestId: must not have fewer than 1 characters",
            ),
            (
                APPROVE,
                {"requestId": "r" * 257},
                "at /requestId: must not have more than 256 characters",
            ),
            (ROTATE, {**SOUND[ROTATE], "scopes": "operator.read"}, "at /scopes: must be array"),
            (ROTATE, {**SOUND[ROTATE], "scopes": [1]}, "at /scopes/0: must be string"),
            (ROTATE, {**SOUND[ROTATE], "scopes": None}, "at /scopes: must be array"),
            (
                ROTATE,
                {**SOUND[ROTATE], "scopes": ["x"] * 257},
                "at /scopes: must not have more than 256 items",
            ),
            (LIST, [], "must be object"),
            (LIST, "text", "must be object"),
        ],
    )
    def test_the_first_problem_is_named(self, method: str, params: Any, problem: str) -> None:
        sent = None if params is None else json.dumps(params).encode()
        assert refusal(turn(method, sent)) == f"invalid {method} params: {problem}"

    def test_params_of_null_are_refused(self) -> None:
        assert refusal(turn(LIST, b"null")) == f"invalid {LIST} params: must be object"

    @pytest.mark.parametrize(
        "params",
        [
            rb'{"requestId":"\ud800"}',
            b'{"requestId":"\xed\xa0\x80"}',
            b'{"requestId":1e999}',
            b'{"requestId":"r"',
            b"[" * 5000 + b"]" * 5000,
        ],
        ids=["surrogate", "not UTF-8", "number", "unclosed", "deep"],
    )
    def test_what_is_not_json_is_ignored(self, params: bytes) -> None:
        assert turn(APPROVE, params) == Reply()

    def test_the_scope_is_checked_before_the_params(self) -> None:
        done = turn(APPROVE, b'{"x":1}', session("operator.read"))
        assert done.frame is not None
        assert json.loads(done.frame)["error"]["code"] == "FORBIDDEN"


class TestProtocol3:
    def test_protocol_3_has_no_rename(self) -> None:
        sound = json.dumps(SOUND[RENAME]).encode()
        done = turn(RENAME, sound, session(ADMIN, protocol=3))
        assert refusal(done) == f"unknown method: {RENAME}"
        done = turn(RENAME, sound, session("operator.pairing", protocol=3))
        assert refusal(done) == "missing scope: operator.admin"
        done = turn(RENAME, sound, session(protocol=3, role="node"))
        assert refusal(done) == "unauthorized role: node"
