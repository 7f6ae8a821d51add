"""What the upstream's response to `connect` means: joined, refused, or a request to approve."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.gateway.handshake.outcome import Accepted
from services.gateway.relay.rules.connect_response import Refused, is_covered, read_connect_response
from services.gateway.relay.rules.rewriting import Joined
from shared.protocol.hello import Grant
from shared.rpc.messages import ClientInfo

DEVICE = "d" * 64
SCOPES = ("operator.read", "operator.write")
ADMITTED = Accepted(
    "1", 4, Grant("token", "operator", SCOPES), DEVICE, ClientInfo("cli", "cli", "1", "linux"), None
)


def read(**response: Any) -> Joined | Refused | None:
    return read_connect_response(json.dumps(response).encode(), ADMITTED)


def refused(**details: Any) -> Refused:
    error = {"code": "NOT_PAIRED", "message": "pairing required", "details": details}
    found = read(type="res", id="1", ok=False, error=error)
    assert isinstance(found, Refused)
    return found


class TestHello:
    def test_it_is_the_clients_with_the_scopes_that_are_missing(self) -> None:
        payload = {
            "type": "hello-ok",
            "server": {"version": "2026.1"},
            "features": {"methods": ["chat.send"], "events": []},
            "auth": {"role": "operator", "scopes": ["operator.read"]},
        }
        found = read(type="res", id="1", ok=True, payload=payload)
        assert isinstance(found, Joined)
        assert (found.missing_scopes, found.version) == (("operator.write",), "2026.1")

    def test_an_event_is_no_response(self) -> None:
        assert read(type="event", event="tick") is None

    @pytest.mark.parametrize("response", [{"type": "res", "ok": True}, {"ok": 1}, {"type": 7}])
    def test_what_cannot_be_read_is_a_refusal(self, response: dict[str, Any]) -> None:
        found = read(**response)
        assert isinstance(found, Refused)
        assert (found.code, found.label) == ("UNREADABLE", "UNREADABLE")


class TestRefusal:
    def test_a_pairing_of_what_was_granted_is_approved(self) -> None:
        found = refused(
            code="PAIRING_REQUIRED",
            deviceId=DEVICE,
            requestId="r1",
            requestedRole="operator",
            requestedScopes=["operator.read"],
        )
        assert found.pairing_request == "r1"

    @pytest.mark.parametrize(
        "more",
        [
            {"requestedScopes": ["operator.admin"]},
            {"requestedRole": "node"},
            {"deviceId": "e" * 64},
            {"requestedScopes": "operator.read"},
            {"code": "TOKEN_MISMATCH"},
        ],
    )
    def test_a_pairing_of_anything_else_is_not(self, more: dict[str, Any]) -> None:
        asked = {"code": "PAIRING_REQUIRED", "deviceId": DEVICE, "requestId": "r1"} | more
        assert refused(**asked).pairing_request is None

    def test_only_a_plain_code_becomes_a_label(self) -> None:
        assert refused(code="TOKEN_MISMATCH").label == "TOKEN_MISMATCH"
        assert refused(code='x"} 1').label == "OTHER"
        assert refused().label == "NOT_PAIRED"

    @pytest.mark.parametrize(
        ("details", "mismatch"),
        [
            ({"code": "PROTOCOL_MISMATCH"}, "protocol mismatch"),
            (
                {"code": "PROTOCOL_MISMATCH", "expectedProtocol": 5},
                "protocol mismatch: the OpenClaw behind this gateway needs protocol 5",
            ),
            ({"expectedProtocol": 5}, ""),
        ],
    )
    def test_another_protocol_is_named(self, details: dict[str, Any], mismatch: str) -> None:
        refusal = refused(**details).refusal
        assert (refusal.close_reason if refusal else "") == mismatch
        if refusal is not None:
            assert (refusal.outcome, refusal.close_code) == ("upstream-protocol", 1002)
            assert refusal.error is not None
            assert (refusal.error.message, refusal.error.details) == (mismatch, details)

    def test_details_that_are_no_object_count_as_none(self) -> None:
        found = read(type="res", ok=False, error={"code": "UNAVAILABLE", "details": [1]})
        assert isinstance(found, Refused)
        assert (found.code, found.details) == ("UNAVAILABLE", {})


class TestPendingRequests:
    @pytest.mark.parametrize(
        ("request_of", "covered"),
        [
            ({"deviceId": DEVICE, "scopes": ["operator.read"]}, True),
            ({"deviceId": DEVICE, "role": "operator"}, True),
            ({"deviceId": DEVICE, "roles": ["operator", "node"]}, False),
            ({"deviceId": DEVICE, "roles": "operator"}, False),
            ({"deviceId": DEVICE, "scopes": ["operator.admin"]}, False),
            ({"deviceId": "e" * 64}, False),
        ],
    )
    def test_a_request_is_covered_by_what_was_granted(
        self, request_of: dict[str, Any], *, covered: bool
    ) -> None:
        assert is_covered(request_of, ADMITTED) is covered
