"""Every row of contract §5 and §7.2: the exact error, the exact close, frame or no frame.

Each error also carries `details.connectionId`. Where design decisions override the contract, the
tests stand in test_handshake_choices.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.device.profile import (
    CLI,
    CLI_3,
    CONTROL_UI,
    CONTROL_UI_3,
    NODE_HOST,
    REFERENCE,
    Profile,
)
from shared.messages import (
    BOOTSTRAP_TOKEN,
    SHARED_SECRET,
    Change,
    Denied,
    Locked,
    NeedsPairing,
    Overfull,
)
from shared.protocol import refusals
from shared.protocol.refusals import Refusal
from tests.support.attempts import (
    BROWSER,
    CONNECTION_ID,
    KEY,
    LOCAL,
    NOW_MS,
    OTHER_KEY,
    REMOTE,
    TOKEN,
    altered,
    answered,
    asked,
    connect,
    encoded,
    knocked,
    new_handshake,
    refused,
    refused_with,
    told,
    wrong,
)

if TYPE_CHECKING:
    from services.gateway.verdicts import Peer

NOW = Change(1, "tag")
WRONG_DEVICE_TOKEN = Denied(NOW, "device-token-mismatch")
TUI = replace(CLI, client_id="openclaw-tui", mode="ui")

HINT_CLI_LOCAL = "use this gateway's gateway.auth.token or pair the device"
HINT_CLI_REMOTE = "set gateway.remote.token to match gateway.auth.token"
HINT_PAGE = "open the dashboard URL and paste the token in Control UI settings"
HINT_PAGE_MISSING = (
    "paste in Control UI settings or openclaw doctor --generate-gateway-token; restart"
)
HINT_OTHERS = "provide gateway auth token"


def row(
    message: str,
    details: dict[str, Any] | None = None,
    *,
    code: str = "INVALID_REQUEST",
    close_code: int = 1008,
    reason: str | None = None,
    **more: Any,
) -> tuple[dict[str, Any], int, str]:
    """Return what the client is to hear; the close reason is the message unless another is given."""
    details = {**(details or {}), "connectionId": CONNECTION_ID}
    error = {"code": code, "message": message, "details": details, **more}
    return error, close_code, (message if reason is None else reason).encode()[:120].decode()


def unauthorized(
    message: str, code: str, reason: str, step: str, *, can_retry: bool = False
) -> tuple[dict[str, Any], int, str]:
    return row(
        f"unauthorized: {message}",
        {
            "code": code,
            "authReason": reason,
            "canRetryWithDeviceToken": can_retry,
            "recommendedNextStep": step,
        },
    )


def mismatch(hint: str, *, with_device: bool) -> tuple[dict[str, Any], int, str]:
    return unauthorized(
        f"gateway token mismatch ({hint})",
        "AUTH_TOKEN_MISMATCH",
        "token_mismatch",
        "retry_with_device_token" if with_device else "update_auth_credentials",
        can_retry=with_device,
    )


def missing(hint: str) -> tuple[dict[str, Any], int, str]:
    return unauthorized(
        f"gateway token missing ({hint})",
        "AUTH_TOKEN_MISSING",
        "token_missing",
        "update_auth_configuration",
    )


DEVICE_REQUIRED = row(
    "device identity required", {"code": "DEVICE_IDENTITY_REQUIRED"}, code="NOT_PAIRED"
)


class TestGatewayToken:
    @pytest.mark.parametrize(
        ("profile", "peer", "hint"),
        [
            (CLI, REMOTE, HINT_CLI_REMOTE),
            (CLI, LOCAL, HINT_CLI_LOCAL),
            (CLI_3, LOCAL, HINT_CLI_REMOTE),
            (REFERENCE, REMOTE, HINT_OTHERS),
        ],
        ids=["cli", "local cli", "local cli in protocol 3", "others"],
    )
    def test_wrong_token_no_device(self, profile: Profile, peer: Peer, hint: str) -> None:
        frame = connect(profile, key=None, token="wrong")
        assert told(wrong(frame, peer)) == mismatch(hint, with_device=False)

    @pytest.mark.parametrize(
        ("profile", "peer", "hint"),
        [
            (CLI, REMOTE, HINT_CLI_REMOTE),
            (CLI, LOCAL, HINT_CLI_LOCAL),
            (CLI_3, LOCAL, HINT_CLI_REMOTE),
            (CONTROL_UI, BROWSER, HINT_PAGE),
            (CONTROL_UI_3, BROWSER, HINT_PAGE),
            (NODE_HOST, REMOTE, HINT_OTHERS),
        ],
        ids=["cli", "local cli", "local cli in protocol 3", "page", "page in protocol 3", "node"],
    )
    def test_wrong_token_with_device_no_device_token(
        self, profile: Profile, peer: Peer, hint: str
    ) -> None:
        """It could be a device token in the wrong field, so approval is asked first."""
        frame = connect(profile, token="wrong")
        question = asked(frame, peer)
        assert (question.method, question.candidate) == ("device-token", "wrong")
        assert question.candidate_field == "token"
        refusal = refused_with(frame, WRONG_DEVICE_TOKEN, peer)
        assert told(refusal) == mismatch(hint, with_device=True)

    @pytest.mark.parametrize("key", [KEY, None], ids=["device", "no device"])
    def test_wrong_password_field(self, key: Any) -> None:
        frame = connect(key=key, token=None, password="wrong")
        assert told(wrong(frame)) == mismatch(HINT_CLI_REMOTE, with_device=False)

    def test_right_token_in_the_password_field(self) -> None:
        question = asked(connect(token=None, password=TOKEN))
        assert (question.method, question.candidate) == ("token", "")

    def test_protocol_3_knows_no_password(self) -> None:
        frame = connect(CLI_3, token=None, password=TOKEN)
        assert told(refused(frame)) == missing(HINT_CLI_REMOTE)

    @pytest.mark.parametrize(
        ("profile", "peer", "hint"),
        [
            (CLI, REMOTE, HINT_CLI_REMOTE),
            (CLI, LOCAL, HINT_CLI_LOCAL),
            (CONTROL_UI, BROWSER, HINT_PAGE_MISSING),
            (REFERENCE, REMOTE, HINT_OTHERS),
        ],
        ids=["cli", "local cli", "page", "others"],
    )
    @pytest.mark.parametrize("token", [None, ""], ids=["no auth", "empty token"])
    def test_no_auth_with_device(
        self, profile: Profile, peer: Peer, hint: str, token: str | None
    ) -> None:
        assert told(refused(connect(profile, token=token), peer)) == missing(hint)

    def test_each_token_of_the_list_is_accepted(self) -> None:
        for token in (TOKEN, "gateway-token-of-32-characters-99"):
            assert asked(connect(token=token)).method == "token"


class TestWithoutDevice:
    @pytest.mark.parametrize("profile", [CLI, REFERENCE], ids=["cli", "backend"])
    def test_no_auth(self, profile: Profile) -> None:
        assert told(refused(connect(profile, key=None, token=None))) == DEVICE_REQUIRED

    def test_device_token_proves_nothing_without_its_device(self) -> None:
        frame = connect(key=None, token=None, device_token="d")
        assert told(refused(frame)) == DEVICE_REQUIRED

    @pytest.mark.parametrize("token", [TOKEN, None], ids=["right token", "no token"])
    def test_node(self, token: str | None) -> None:
        assert told(refused(connect(NODE_HOST, key=None, token=token))) == DEVICE_REQUIRED

    @pytest.mark.parametrize("profile", [CONTROL_UI, TUI], ids=["page", "tui"])
    @pytest.mark.parametrize("token", [TOKEN, "wrong", None], ids=["right", "wrong", "none"])
    def test_control_ui(self, profile: Profile, token: str | None) -> None:
        assert told(refused(connect(profile, key=None, token=token), BROWSER)) == row(
            "control ui requires device identity (use HTTPS or localhost secure context)",
            {"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"},
        )


class TestDeviceToken:
    def test_bad_device_token(self) -> None:
        frame = connect(token=None, device_token="old")
        question = asked(frame)
        assert (question.method, question.candidate) == ("device-token", "old")
        assert question.candidate_field == "deviceToken"
        assert told(refused_with(frame, WRONG_DEVICE_TOKEN)) == unauthorized(
            "device token mismatch (rotate/reissue device token)",
            "AUTH_DEVICE_TOKEN_MISMATCH",
            "device_token_mismatch",
            "update_auth_credentials",
        )

    def test_bad_device_token_beside_a_wrong_token(self) -> None:
        frame = connect(token="wrong", device_token="old")
        assert asked(frame).candidate == "old"
        error, *_ = told(refused_with(frame, WRONG_DEVICE_TOKEN))
        assert error is not None
        assert error["details"]["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"

    def test_bad_device_token_only_in_the_token_field(self) -> None:
        refusal = refused_with(connect(token="old"), WRONG_DEVICE_TOKEN)
        assert told(refusal) == mismatch(HINT_CLI_REMOTE, with_device=True)

    def test_scopes_beyond_those_of_the_token(self) -> None:
        frame = connect(token=None, device_token="d")
        assert told(refused_with(frame, Denied(NOW, "scope-mismatch"))) == unauthorized(
            "device token scope mismatch (re-pair or approve scope upgrade)",
            "AUTH_SCOPE_MISMATCH",
            "scope_mismatch",
            "review_auth_configuration",
        )

    def test_bad_bootstrap_token(self) -> None:
        frame = connect(token=None, bootstrap_token="b")
        assert told(wrong(frame, classes=(BOOTSTRAP_TOKEN,))) == unauthorized(
            "setup code invalid, expired, revoked, or already used "
            "(create a new code; review `openclaw devices list`)",
            "AUTH_BOOTSTRAP_TOKEN_INVALID",
            "bootstrap_token_invalid",
            "review_auth_configuration",
        )

    def test_bad_bootstrap_token_in_protocol_3(self) -> None:
        frame = connect(CLI_3, token=None, bootstrap_token="b")
        assert told(wrong(frame, classes=(BOOTSTRAP_TOKEN,))) == unauthorized(
            "bootstrap token invalid or expired (scan a fresh setup code)",
            "AUTH_BOOTSTRAP_TOKEN_INVALID",
            "bootstrap_token_invalid",
            "review_auth_configuration",
        )

    def test_the_gateway_token_goes_before_a_device_token(self) -> None:
        question = asked(connect(device_token="whatever"))
        told_along = (question.candidate, question.candidate_field)
        assert (question.method, told_along) == ("token", ("whatever", "deviceToken"))
        assert not question.guessed_secret


class TestTooManyFailures:
    """Right or wrong this time: nobody learns whether a secret is right while locked out."""

    LOCKED = Locked(NOW, 299_995)

    def row(self) -> tuple[dict[str, Any], int, str]:
        error, code, reason = unauthorized(
            "too many failed authentication attempts (retry later)",
            "AUTH_RATE_LIMITED",
            "rate_limited",
            "wait_then_retry",
        )
        return {**error, "retryable": True, "retryAfterMs": 299_995}, code, reason

    @pytest.mark.parametrize(
        "frame",
        [
            connect(),
            connect(token="wrong"),
            connect(token=None, device_token="d"),
            connect(NODE_HOST),
            connect(CLI_3),
        ],
        ids=["right token", "wrong token", "device token", "node", "protocol 3"],
    )
    def test_with_device(self, frame: Any) -> None:
        assert told(refused_with(frame, self.LOCKED)) == self.row()

    @pytest.mark.parametrize(
        ("frame", "classes", "right"),
        [
            (connect(key=None), (SHARED_SECRET,), True),
            (connect(key=None, token="wrong"), (SHARED_SECRET,), False),
            (connect(token=None, password="wrong"), (SHARED_SECRET,), False),
            (connect(token=None, bootstrap_token="b"), (BOOTSTRAP_TOKEN,), False),
        ],
        ids=["right token", "wrong token", "wrong password", "bootstrap token"],
    )
    def test_knocks(self, frame: Any, classes: tuple[str, ...], *, right: bool) -> None:
        outcome = knocked(frame, REMOTE, self.LOCKED, classes=classes, right=right)
        assert isinstance(outcome, Refusal)
        assert told(outcome) == self.row()

    @pytest.mark.parametrize("token", [None, ""], ids=["no auth", "empty token"])
    def test_missing_secrets_are_not_counted(self, token: str | None) -> None:
        assert told(refused(connect(token=token))) == missing(HINT_CLI_REMOTE)

    def test_nor_is_a_proof_that_is_broken(self) -> None:
        frame = altered(connect(token="wrong"), lambda p: p["device"].update(signature="bad"))
        error, _, _ = told(refused(frame))
        assert error is not None
        assert error["details"]["code"] == "DEVICE_AUTH_SIGNATURE_INVALID"


def device_row(message: str, code: str, reason: str) -> tuple[dict[str, Any], int, str]:
    return row(message, {"code": code, "reason": reason})


ID_MISMATCH = device_row(
    "device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch"
)


class TestDeviceProof:
    @pytest.mark.parametrize(
        "change",
        [
            {"id": OTHER_KEY.device_id},
            {"id": KEY.device_id.upper()},
            {"id": "x"},
            {"publicKey": OTHER_KEY.public_key},
            {"publicKey": "garbage!"},
            {"publicKey": "A"},
            {"publicKey": KEY.public_key + "AA"},
        ],
        ids=[
            "other id",
            "upper case",
            "no hash",
            "other key",
            "no base64",
            "too short",
            "too long",
        ],
    )
    def test_id_is_not_the_hash_of_the_key(self, change: dict[str, str]) -> None:
        frame = altered(connect(), lambda params: params["device"].update(change))
        assert told(refused(frame)) == ID_MISMATCH

    def test_another_key_than_the_paired_one(self) -> None:
        assert told(refused_with(connect(), Denied(NOW, "key-mismatch"))) == ID_MISMATCH

    @pytest.mark.parametrize("skew_ms", [-120_001, 120_001, 10**9])
    def test_signed_too_long_ago_or_ahead(self, skew_ms: int) -> None:
        assert told(refused(connect(), now_ms=NOW_MS + skew_ms)) == device_row(
            "device signature expired", "DEVICE_AUTH_SIGNATURE_EXPIRED", "device-signature-stale"
        )

    @pytest.mark.parametrize("skew_ms", [-120_000, 0, 120_000])
    def test_two_minutes_are_allowed(self, skew_ms: int) -> None:
        assert asked(connect(), now_ms=NOW_MS + skew_ms).device_id == KEY.device_id

    @pytest.mark.parametrize("nonce", [" ", "\t\n", "\u00a0"])
    def test_blank_nonce(self, nonce: str) -> None:
        frame = altered(connect(), lambda params: params["device"].update(nonce=nonce))
        assert told(refused(frame)) == device_row(
            "device nonce required", "DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing"
        )

    def test_other_nonce(self) -> None:
        frame = altered(connect(), lambda params: params["device"].update(nonce="other"))
        assert told(refused(frame)) == device_row(
            "device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch"
        )

    @pytest.mark.parametrize("signature", ["garbage", "A" * 86, "!", "AAAA", "é"])
    def test_wrong_signature(self, signature: str) -> None:
        frame = altered(connect(), lambda params: params["device"].update(signature=signature))
        assert told(refused(frame)) == device_row(
            "device signature invalid", "DEVICE_AUTH_SIGNATURE_INVALID", "device-signature"
        )


class TestParams:
    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda p: p["device"].pop("nonce"), "at /device: must have required property 'nonce'"),
            (
                lambda p: p["device"].update(nonce=""),
                "at /device/nonce: must not have fewer than 1 characters",
            ),
            (lambda p: p["device"].update(signedAt="0"), "at /device/signedAt: must be integer"),
            (
                lambda p: p["client"].update(id="nope"),
                "at /client/id: must be equal to one of the allowed values",
            ),
            (
                lambda p: p["client"].update(mode="nope"),
                "at /client/mode: must be equal to one of the allowed values",
            ),
            (lambda p: p.clear(), "must have required property 'minProtocol'"),
        ],
    )
    def test_first_problem_is_told(self, change: Any, problem: str) -> None:
        assert told(refused(altered(connect(), change))) == row(
            f"invalid connect params: {problem}"
        )

    def test_protocol_3_hears_all_problems(self) -> None:
        frame = altered(connect(CLI_3), lambda params: params["client"].clear())
        names = ("id", "version", "platform", "mode")
        said = "; ".join(f"at /client: must have required property '{name}'" for name in names)
        assert told(refused(frame)) == row(f"invalid connect params: {said}")

    def test_no_params_at_all(self) -> None:
        frame = {"type": "req", "id": "1:x", "method": "connect"}
        assert told(refused(frame)) == row(
            "invalid connect params: must have required property 'minProtocol'"
        )

    @pytest.mark.parametrize(("least", "most"), [(5, 5), (1, 2), (4, 3), (6, 10**30)])
    def test_no_common_protocol(self, least: int, most: int) -> None:
        frame = connect(replace(CLI, min_protocol=least, max_protocol=most))
        assert told(refused(frame)) == row(
            "protocol mismatch",
            {
                "code": "PROTOCOL_MISMATCH",
                "clientMinProtocol": least,
                "clientMaxProtocol": most,
                "expectedProtocol": 4,
                "minimumProbeProtocol": 3,
            },
            close_code=1002,
        )

    @pytest.mark.parametrize("role", ["admin", "Operator", " operator", "operator\x00"])
    def test_unknown_role(self, role: str) -> None:
        assert told(refused(connect(replace(CLI, role=role)))) == row("invalid role")


class TestFirstFrame:
    @pytest.mark.parametrize("method", ["health", "Connect", "device.pair.list"])
    def test_other_method(self, method: str) -> None:
        frame = {"type": "req", "id": "1:x", "method": method, "params": {}}
        assert told(refused(frame)) == row("invalid handshake: first request must be connect")

    @pytest.mark.parametrize(
        "frame",
        [
            {"type": "event", "event": "x"},
            {"type": "res", "id": "1", "ok": True},
            [],
            [connect()],
            None,
            7,
            "connect",
            {},
            {"type": "req", "method": "connect", "params": {}},
            {"type": "req", "id": "", "method": "connect", "params": {}},
            {"type": "req", "id": 1, "method": "connect", "params": {}},
            {"type": "req", "id": "1", "params": {}},
            {**connect(), "type": "request"},
            {name: value for name, value in connect().items() if name != "type"},
            {**connect(), "traceparent": "x" * 129},
        ],
    )
    def test_no_request_is_closed_without_a_frame(self, frame: Any) -> None:
        assert told(refused(frame)) == (None, 1008, "invalid request frame")

    @pytest.mark.parametrize("text", [b"", b"hello", b"{", b"\xff", b"[" * 60_000, b"\x00"])
    def test_not_json_is_closed_without_a_frame(self, text: bytes) -> None:
        assert told(refused(text)) == (None, 1000, "")

    @pytest.mark.parametrize(
        "change",
        [
            lambda params: params.update(role="worker"),
            lambda params: params["client"].update(mode="worker"),
            lambda params: params["client"].update(id="openclaw-worker"),
            lambda params: params.update(role="worker", minProtocol=0, junk=1),
            lambda params: (params.clear(), params.update(role="worker")),
        ],
    )
    def test_workers_are_closed_without_a_frame(self, change: Any) -> None:
        refusal = refused(altered(connect(), change))
        assert told(refusal) == (None, 1008, "invalid-handshake")

    def test_worker_role_in_protocol_3_is_no_role(self) -> None:
        assert told(refused(connect(replace(CLI_3, role="worker")))) == row("invalid role")

    def test_what_the_socket_itself_refuses(self) -> None:
        assert told(refusals.TOO_BIG) == (None, 1009, "")
        assert told(refusals.SILENT) == (None, 1000, "")
        assert told(refusals.TOO_MANY_FRAMES) == (None, 1008, "too many pending handshake frames")

    def test_the_answer_goes_under_the_id_of_the_request(self) -> None:
        for frame in (
            connect(token=None),
            {**connect(), "method": "x"},
            {**connect(), "params": {}},
        ):
            handshake = new_handshake()
            handshake.on_frame(encoded({**frame, "id": "mine"}), now_ms=NOW_MS)
            assert handshake.frame_id == "mine"


ORIGIN_MESSAGE = (
    "origin not allowed (open the Control UI from the gateway host or allow it in "
    "gateway.controlUi.allowedOrigins)"
)


def origin_row(reason: str) -> tuple[dict[str, Any], int, str]:
    return row(ORIGIN_MESSAGE, {"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason})


class TestOrigin:
    def test_not_allowed(self) -> None:
        page = replace(REMOTE, origin="https://evil.example")
        for profile in (CONTROL_UI, CLI, NODE_HOST):
            assert told(refused(connect(profile), page)) == origin_row("origin not allowed")

    @pytest.mark.parametrize(
        "client_id", ["openclaw-control-ui", "openclaw-browser-copilot", "webchat", "webchat-ui"]
    )
    def test_missing_from_a_browser(self, client_id: str) -> None:
        frame = connect(replace(CONTROL_UI, client_id=client_id))
        assert told(refused(frame)) == origin_row("origin missing or invalid")

    @pytest.mark.parametrize("origin", ["null", "", "ok.example", "file://", "https://"])
    def test_unparsable(self, origin: str) -> None:
        refusal = refused(connect(CONTROL_UI), replace(REMOTE, origin=origin))
        assert told(refusal) == origin_row("origin missing or invalid")

    def test_allowed(self) -> None:
        assert asked(connect(CONTROL_UI), BROWSER).client.id == "openclaw-control-ui"


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
    def test_each_reason(self, reason: str) -> None:
        what, hint = PAIRING_TEXTS[reason]
        message = f"pairing required: {what}"
        needs = NeedsPairing(NOW, reason, REQUEST_ID)
        assert told(refused_with(connect(), needs)) == row(
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

    def test_a_known_device_hears_what_is_approved(self) -> None:
        needs = NeedsPairing(
            NOW, "scope-upgrade", REQUEST_ID, ["operator", "node"], ["operator.read", "node.a"]
        )
        error, *_ = told(refused_with(connect(), needs))
        assert error is not None
        assert error["details"]["approvedRoles"] == ["node", "operator"]
        assert error["details"]["approvedScopes"] == ["node.a", "operator.read"]

    def test_no_scopes_are_left_out(self) -> None:
        error, *_ = told(refused_with(connect(NODE_HOST), NeedsPairing(NOW, "not-paired", "r")))
        assert error is not None
        assert "requestedScopes" not in error["details"]
        assert error["details"]["requestedRole"] == "node"

    def test_the_dashboard_is_told_to_wait_and_retry_by_itself(self) -> None:
        needs = NeedsPairing(NOW, "not-paired", REQUEST_ID)
        error, *_ = told(refused_with(connect(CONTROL_UI), needs, BROWSER))
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
    def test_nobody_else_is(self, profile: Profile) -> None:
        error, *_ = told(
            refused_with(connect(profile), NeedsPairing(NOW, "not-paired", "r"), BROWSER)
        )
        assert error is not None
        assert not {"recommendedNextStep", "retryable", "pauseReconnect"} & set(error["details"])

    @pytest.mark.parametrize("reason", PAIRING_TEXTS)
    @pytest.mark.parametrize(("profile", "peer"), [(CLI_3, REMOTE), (CONTROL_UI_3, BROWSER)])
    def test_protocol_3_in_its_own_words(self, profile: Profile, peer: Peer, reason: str) -> None:
        needs = NeedsPairing(NOW, reason, REQUEST_ID, ["operator"], ["operator.read"])
        assert told(refused_with(connect(profile), needs, peer)) == row(
            "pairing required",
            {"code": "PAIRING_REQUIRED", "requestId": REQUEST_ID, "reason": reason},
            code="NOT_PAIRED",
        )


class TestUnavailable:
    """Unknown is never refused: come back, and no word of pairing."""

    def test_no_answer(self) -> None:
        handshake = new_handshake()
        refusal = handshake.on_unavailable("no answer", "approval", retry_after_ms=1234)
        assert told(refusal) == row(
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
        error, code, reason = told(refusal)
        assert error is not None
        assert error["message"] == "redis unavailable; retry shortly"
        assert error["details"]["reason"] == "redis"
        assert (code, reason) == (1013, "redis unavailable")

    def test_no_room_for_another_request(self) -> None:
        error, code, _ = told(answered(connect(), Overfull(NOW)))  # type: ignore[arg-type]
        assert code == 1013
        assert error is not None
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        assert error["retryAfterMs"] > 0
        assert "pair" not in error["message"]
