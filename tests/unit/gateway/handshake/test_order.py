"""Where Latchkey differs from OpenClaw: the order of checks, and the conditions for admission."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import structs

from services.gateway.handshake.handshake import State
from services.gateway.handshake.outcome import Accepted, RequestInfo
from shared.device.profile import (
    CLI,
    CLI_3,
    CONTROL_UI,
    NODE_HOST,
    NODE_HOST_3,
    PROFILES,
    REFERENCE,
    Profile,
)
from shared.protocol.hello import Grant
from shared.protocol.refusals import Refusal
from shared.rpc.messages import (
    Admitted,
    AuthorizeDevice,
    ClientInfo,
    Denied,
    NeedsPairing,
    Position,
)
from tests.support.attempts import (
    BROWSER,
    CHALLENGE,
    CONNECTION_ID,
    KEY,
    LOCAL,
    NOW_MS,
    PAGE,
    REMOTE,
    TOKEN,
    acceptance_of,
    alter,
    connect,
    detail_code,
    evaluate,
    new_handshake,
    outcome_after,
    question_of,
    refusal_of,
    to_bytes,
)
from tests.support.wire import ATTEMPTS, Attempt

YES = Admitted(Position(3, "t"), "issued", ["operator.admin", "operator.read", "operator.write"], 9)


class TestUnknownFields:
    """Unknown fields are ignored everywhere; the original refuses them."""

    @pytest.mark.parametrize(
        "change",
        [
            lambda params: params.update(bogus=1),
            lambda params: params["client"].update(bogus={"deep": [1]}),
            lambda params: params["auth"].update(bogus="x"),
            lambda params: params["device"].update(bogus=None),
            lambda params: params.update(modelCatalog={"sessionKey": "main"}),
            lambda params: params.update(computerUse=7, workerRuns={}),
        ],
    )
    def test_unknown_fields_change_nothing(self, change: Any) -> None:
        assert question_of(alter(connect(), change)) == question_of(connect())

    def test_unknown_fields_beside_the_params_change_nothing(self) -> None:
        assert question_of({**connect(), "bogus": 1}) == question_of(connect())


class TestProtocols:
    @pytest.mark.parametrize("profile", [CLI_3, NODE_HOST_3], ids=["operator", "node"])
    def test_protocol_3_is_served(self, profile: Profile) -> None:
        assert question_of(connect(profile)).protocol == 3

    @pytest.mark.parametrize(
        ("minimum", "maximum", "answered_in"),
        [(3, 3, 3), (4, 4, 4), (3, 4, 4), (1, 9, 4), (1, 3, 3)],
    )
    def test_the_best_common_one_answers(
        self, minimum: int, maximum: int, answered_in: int
    ) -> None:
        frame = connect(replace(CLI, min_protocol=minimum, max_protocol=maximum))
        assert question_of(frame).protocol == answered_in
        welcome = outcome_after(frame, YES)
        assert isinstance(welcome, Accepted)
        assert welcome.protocol == answered_in

    @pytest.mark.parametrize("mode", ["probe", "test", "cli"])
    def test_protocol_3_is_chosen_whatever_the_mode(self, mode: str) -> None:
        assert question_of(connect(replace(CLI_3, mode=mode))).protocol == 3


class TestLoopback:
    """Loopback is not trusted: behind a proxy every client looks local."""

    @pytest.mark.parametrize("profile", [CLI, REFERENCE], ids=["cli", "backend"])
    def test_no_scope_is_kept_without_a_device(self, profile: Profile) -> None:
        frame = connect(profile.with_scopes("operator.admin"), key=None)
        assert acceptance_of(frame, LOCAL).grant.scopes == ()

    def test_a_local_backend_with_a_device_is_asked_about(self) -> None:
        assert question_of(connect(REFERENCE), LOCAL).address == "127.0.0.1"


class TestOrder:
    """A connect with two faults is refused for the one that is checked first."""

    @pytest.mark.parametrize(
        ("frame", "peer", "first"),
        [
            (
                alter(connect(replace(CLI, role="worker")), lambda p: p.update(minProtocol="x")),
                REMOTE,
                "invalid-handshake",
            ),
            (connect(replace(CLI, min_protocol=5, role="x")), REMOTE, "PROTOCOL_MISMATCH"),
            (
                connect(replace(CLI, role="x")),
                structs.replace(REMOTE, origin="null"),
                "invalid role",
            ),
            (connect(CONTROL_UI, key=None), REMOTE, "CONTROL_UI_ORIGIN_NOT_ALLOWED"),
            (
                alter(connect(token="wrong"), lambda p: p["device"].update(signature="bad")),
                REMOTE,
                "DEVICE_AUTH_SIGNATURE_INVALID",
            ),
            (
                alter(connect(token=None), lambda p: p["device"].update(nonce="bad")),
                REMOTE,
                "DEVICE_AUTH_NONCE_MISMATCH",
            ),
            (
                alter(connect(), lambda p: p["device"].update(id="x", signedAt=0, nonce="x")),
                REMOTE,
                "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            ),
            (
                alter(connect(), lambda p: p["device"].update(signedAt=0, nonce=" ")),
                REMOTE,
                "DEVICE_AUTH_SIGNATURE_EXPIRED",
            ),
            (
                alter(connect(), lambda p: p["device"].update(nonce="x", signature="x")),
                REMOTE,
                "DEVICE_AUTH_NONCE_MISMATCH",
            ),
        ],
        ids=[
            "worker before params",
            "protocol before role",
            "role before origin",
            "origin before device",
            "signature before wrong token",
            "nonce before missing token",
            "id before age",
            "age before nonce",
            "nonce before signature",
        ],
    )
    def test_the_first_problem_in_order_is_reported(
        self, frame: Any, peer: RequestInfo, first: str
    ) -> None:
        assert detail_code(refusal_of(frame, peer)) == first


class TestQuestion:
    def test_says_all_that_approval_needs(self) -> None:
        profile = replace(CLI, display_name="Kitchen", scopes=("operator.write", "operator.read"))
        assert question_of(connect(profile)) == AuthorizeDevice(
            call_id=CONNECTION_ID,
            device_id=KEY.device_id,
            public_key=KEY.public_key,
            role="operator",
            scopes=["operator.write", "operator.read"],
            client=ClientInfo("cli", "cli", "2026.9.6", "linux", "Linux", "Kitchen"),
            method="token",
            address="203.0.113.7",
            protocol=4,
        )

    def test_the_key_is_in_its_canonical_form(self) -> None:
        standard = KEY.public_key.replace("-", "+").replace("_", "/") + "="
        frame = alter(connect(), lambda p: p["device"].update(publicKey=f" {standard}\n"))
        assert question_of(frame).public_key == KEY.public_key

    def test_role_and_scopes_have_defaults(self) -> None:
        question = question_of(connect(replace(CLI, role=None, scopes=None)))
        assert (question.role, question.scopes) == ("operator", [])

    def test_a_long_display_name_is_cut(self) -> None:
        name = "\u202e*:\n<b>" + "x" * 10_000
        question = question_of(connect(replace(CLI, display_name=name)))
        assert question.client.display_name == name[:128]

    @pytest.mark.parametrize("attempt", ATTEMPTS, ids=str)
    def test_recorded_clients_are_asked_about(self, attempt: Attempt) -> None:
        recorded = attempt.connect["params"]
        peer = structs.replace(REMOTE, origin=PAGE)
        handshake = new_handshake(peer, nonce=attempt.nonce)
        effect = handshake.on_frame(to_bytes(attempt.connect), now_ms=attempt.ts)
        if "auth" not in recorded:
            assert isinstance(effect, Refusal)
            assert detail_code(effect) == "AUTH_TOKEN_MISSING"
            return
        assert isinstance(effect, AuthorizeDevice)
        assert effect.device_id == recorded["device"]["id"]
        assert effect.scopes == recorded["scopes"]
        assert effect.token_candidate == recorded["auth"]["token"]  # not our gateway's token


class TestGuessedSecret:
    """A wrong gateway token beside a device token counts, even if that one is right."""

    @pytest.mark.parametrize(
        ("secrets", "wrong", "guessed"),
        [
            ({"token": TOKEN}, False, False),
            ({"token": TOKEN, "device_token": "d"}, False, False),
            ({"token": None, "device_token": "d"}, False, False),
            ({"token": "d"}, True, False),
            ({"token": "d", "device_token": "d"}, True, False),
            ({"token": "guess", "device_token": "d"}, True, True),
            ({"token": None, "password": "guess", "device_token": "d"}, True, True),
            ({"token": "d", "password": "d", "device_token": "d"}, True, False),
            ({"token": "d", "password": "guess", "device_token": "d"}, True, True),
            ({"token": "d", "password": "guess"}, True, True),
        ],
        ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
    )
    def test_a_wrong_gateway_token_is_a_guess_unless_it_is_the_device_token(
        self, secrets: dict[str, Any], *, wrong: bool, guessed: bool
    ) -> None:
        question = question_of(connect(**secrets))
        assert (question.gateway_token_failed, question.wrong_gateway_token) == (wrong, guessed)

    def test_protocol_3_knows_no_password(self) -> None:
        question = question_of(connect(CLI_3, token=None, password="guess", device_token="d"))
        assert (question.gateway_token_failed, question.wrong_gateway_token) == (False, False)


class TestYes:
    @pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
    def test_live_scopes_are_the_requested_ones_in_their_order(self, profile: Profile) -> None:
        welcome = outcome_after(connect(profile), YES, BROWSER)
        assert isinstance(welcome, Accepted)
        assert welcome.frame_id == "1:x"
        assert welcome.device_id == KEY.device_id
        assert welcome.answer == YES
        assert welcome.grant == Grant(
            method="token",
            role=profile.role or "operator",
            scopes=list(profile.scopes or ()),
            device_token="issued",
            token_scopes=YES.token_scopes,
            issued_at_ms=9,
        )

    def test_a_device_token_admits_without_a_gateway_token(self) -> None:
        welcome = outcome_after(connect(token=None, device_token="d"), YES)
        assert isinstance(welcome, Accepted)
        assert welcome.grant.method == "device-token"

    def test_what_approval_says_it_was(self) -> None:
        """If the gateway token is locked out, only the device token counts."""
        answer = msgspec.structs.replace(YES, method="device-token")
        welcome = outcome_after(connect(device_token="d"), answer)
        assert isinstance(welcome, Accepted)
        assert welcome.grant.method == "device-token"

    def test_without_a_device_approval_only_counts(self) -> None:
        welcome = acceptance_of(connect(key=None))
        assert (welcome.answer, welcome.device_id) == (None, "")
        assert welcome.grant == Grant("token", "operator", ())


class TestState:
    def test_the_state_only_moves_forward(self) -> None:
        handshake = new_handshake()
        assert handshake.state is State.CHALLENGED
        handshake.on_frame(to_bytes(connect()), now_ms=NOW_MS)
        assert handshake.state.name == "ASKING"
        handshake.on_answer(YES)
        assert handshake.state.name == "DONE"

    @pytest.mark.parametrize(
        "frame", [b"", connect(token=None), connect(NODE_HOST, key=None, token=None)]
    )
    def test_the_handshake_is_over_if_nothing_is_asked(self, frame: Any) -> None:
        handshake = new_handshake()
        handshake.on_frame(to_bytes(frame), now_ms=NOW_MS)
        assert handshake.state is State.DONE

    @pytest.mark.parametrize(
        "answer",
        [Denied(Position(), "scope-mismatch"), NeedsPairing(Position(), "not-paired", "r")],
    )
    def test_the_handshake_is_over_after_a_denial(self, answer: Any) -> None:
        handshake = new_handshake()
        handshake.on_frame(to_bytes(connect()), now_ms=NOW_MS)
        handshake.on_answer(answer)
        assert handshake.state is State.DONE

    def test_an_answer_without_a_question_is_a_mistake(self) -> None:
        with pytest.raises(RuntimeError):
            new_handshake().on_answer(YES)

    def test_challenges_are_one_connection_s_own(self) -> None:
        assert isinstance(evaluate(connect(challenge=CHALLENGE)), AuthorizeDevice)
        assert TOKEN not in repr(new_handshake())
