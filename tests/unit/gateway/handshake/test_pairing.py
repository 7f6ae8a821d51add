"""Refusals for unpaired devices, and failures of approval."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from services.gateway.handshake.handshake import Handshake
from shared.device.handshake import encode
from shared.device.profile import (
    CLI,
    CLI_3,
    CONTROL_UI,
    CONTROL_UI_3,
    NODE_HOST,
    REFERENCE,
    Profile,
)
from shared.protocol.refusals import Refusal
from shared.rpc.messages import NeedsPairing, TooManyPending
from tests.support.attempts import (
    BROWSER,
    CONNECTION_ID,
    KEY,
    NONCE,
    NOW_MS,
    REMOTE,
    RULES,
    client_view,
    connect,
    new_handshake,
    outcome_after,
    refusal_after,
)
from tests.unit.gateway.handshake.refusal_rows import NOW, row

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import RequestInfo

PAIRING_TEXTS = {
    "not-paired": (
        "device is not approved yet",
        "Approve this device from the pending pairing requests.",
    ),
    "role-upgrade": (
        "device is asking for a higher role than currently approved",
        "Review the requested role upgrade, then approve the pending request.",
    ),
    "scope-upgrade": (
        "device is asking for more scopes than currently approved",
        "Review the requested scopes, then approve the pending upgrade.",
    ),
    "metadata-upgrade": (
        "device identity changed and must be re-approved",
        "Review the refreshed device details, then approve the pending request.",
    ),
}
REQUEST_ID = "220dd984-79b3-4860-a084-c16f321f9dec"


class TestPairing:
    @pytest.mark.parametrize("reason", PAIRING_TEXTS)
    def test_each_reason_for_pairing_has_its_text(self, reason: str) -> None:
        label, hint = PAIRING_TEXTS[reason]
        message = f"pairing required: {label}"
        needs = NeedsPairing(NOW, reason, REQUEST_ID)
        assert client_view(refusal_after(connect(), needs)) == row(
            message,
            {
                "code": "PAIRING_REQUIRED",
                "reason": reason,
                "requestId": REQUEST_ID,
                "remediationHint": hint,
                "deviceId": KEY.device_id,
                "requestedRole": "operator",
                "requestedScopes": ["operator.read"],
            },
            code="NOT_PAIRED",
            reason=f"{message} (requestId: {REQUEST_ID})",
        )

    def test_a_known_device_learns_what_is_approved(self) -> None:
        needs = NeedsPairing(
            NOW, "scope-upgrade", REQUEST_ID, ["operator", "node"], ["operator.read", "node.a"]
        )
        error, *_ = client_view(refusal_after(connect(), needs))
        assert error is not None
        assert error["details"]["approvedRoles"] == ["node", "operator"]
        assert error["details"]["approvedScopes"] == ["node.a", "operator.read"]

    @pytest.mark.parametrize("profile", [CLI, CLI_3, CONTROL_UI, CONTROL_UI_3])
    def test_the_place_to_approve_is_named_if_known(self, profile: Profile) -> None:
        rules = replace(RULES, approval_url="https://approve.example")
        handshake = Handshake(CONNECTION_ID, NONCE, BROWSER, rules)
        handshake.on_frame(encode(connect(profile)).encode(), now_ms=NOW_MS)
        refusal = handshake.on_answer(NeedsPairing(NOW, "not-paired", REQUEST_ID))
        assert isinstance(refusal, Refusal)
        assert refusal.error is not None
        details = refusal.error.details or {}
        assert details["approvalUrl"] == "https://approve.example"
        hint = (
            "Approve this device from the pending pairing requests at https://approve.example/setup"
        )
        assert details.get("remediationHint", hint) == hint

    def test_no_scopes_are_left_out(self) -> None:
        error, *_ = client_view(
            refusal_after(connect(NODE_HOST), NeedsPairing(NOW, "not-paired", "r"))
        )
        assert error is not None
        assert "requestedScopes" not in error["details"]
        assert error["details"]["requestedRole"] == "node"

    def test_the_dashboard_is_asked_to_wait_and_retries_by_itself(self) -> None:
        needs = NeedsPairing(NOW, "not-paired", REQUEST_ID)
        error, *_ = client_view(refusal_after(connect(CONTROL_UI), needs, BROWSER))
        assert error is not None
        details = error["details"]
        assert (details["recommendedNextStep"], details["retryable"]) == ("wait_then_retry", True)
        assert details["pauseReconnect"] is False
        assert list(details)[3:7] == [
            "remediationHint",
            "recommendedNextStep",
            "retryable",
            "pauseReconnect",
        ]

    @pytest.mark.parametrize(
        "profile", [CLI, NODE_HOST, REFERENCE, replace(CONTROL_UI, role="node")]
    )
    def test_other_clients_are_not_advised_to_wait(self, profile: Profile) -> None:
        error, *_ = client_view(
            refusal_after(connect(profile), NeedsPairing(NOW, "not-paired", "r"), BROWSER)
        )
        assert error is not None
        assert not {"recommendedNextStep", "retryable", "pauseReconnect"} & set(error["details"])

    @pytest.mark.parametrize("reason", PAIRING_TEXTS)
    @pytest.mark.parametrize(("profile", "peer"), [(CLI_3, REMOTE), (CONTROL_UI_3, BROWSER)])
    def test_protocol_3_in_its_own_words(
        self, profile: Profile, peer: RequestInfo, reason: str
    ) -> None:
        needs = NeedsPairing(NOW, reason, REQUEST_ID, ["operator"], ["operator.read"])
        assert client_view(refusal_after(connect(profile), needs, peer)) == row(
            "pairing required",
            {"code": "PAIRING_REQUIRED", "requestId": REQUEST_ID, "reason": reason},
            code="NOT_PAIRED",
        )


class TestUnavailable:
    """While the outcome is unknown, the client is asked to retry and not to pair."""

    def test_no_answer_from_approval_is_unavailable(self) -> None:
        handshake = new_handshake()
        refusal = handshake.on_unavailable("no answer", "approval", retry_after_ms=1234)
        assert client_view(refusal) == row(
            "approval unavailable (no answer); retry shortly",
            {"code": "UNAVAILABLE", "reason": "no answer", "dependency": "approval"},
            code="UNAVAILABLE",
            close_code=1013,
            reason="approval unavailable",
            retryable=True,
            retryAfterMs=1234,
        )

    def test_what_is_missing_is_not_said_twice(self) -> None:
        refusal = new_handshake().on_unavailable("redis", "redis", retry_after_ms=1234)
        error, code, reason = client_view(refusal)
        assert error is not None
        assert error["message"] == "redis unavailable; retry shortly"
        assert error["details"]["reason"] == "redis"
        assert (code, reason) == (1013, "redis unavailable")

    def test_a_full_list_of_requests_is_unavailable(self) -> None:
        error, code, _ = client_view(outcome_after(connect(), TooManyPending(NOW)))  # type: ignore[arg-type]
        assert code == 1013
        assert error is not None
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        assert error["retryAfterMs"] > 0
        assert "pair" not in error["message"]
