"""Refusals for gateway tokens, missing devices, device tokens and bootstrap tokens."""

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
from shared.protocol.refusals import Refusal
from shared.rpc.messages import SHARED_SECRET, Denied, Guess, ReportSecret, encode
from shared.secret_digests import SecretDigests
from shared.setup_tokens import digest_of
from tests.support.attempts import (
    BROWSER,
    DIGESTS,
    KEY,
    LOCAL,
    REMOTE,
    TOKEN,
    after_report,
    client_view,
    connect,
    evaluate,
    question_of,
    refusal_after,
    refusal_of,
    refusal_of_wrong_secret,
)
from tests.unit.gateway.handshake.refusal_rows import (
    HINT_CLI_LOCAL,
    HINT_CLI_REMOTE,
    HINT_OTHERS,
    HINT_PAGE,
    HINT_PAGE_MISSING,
    NOW,
    WRONG_DEVICE_TOKEN,
    mismatch,
    missing,
    row,
    unauthorized,
)

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import RequestInfo

TUI = replace(CLI, client_id="openclaw-tui", mode="ui")


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
    def test_a_wrong_token_without_a_device_is_refused(
        self, profile: Profile, peer: RequestInfo, hint: str
    ) -> None:
        frame = connect(profile, key=None, token="wrong")
        assert client_view(refusal_of_wrong_secret(frame, peer)) == mismatch(
            hint, with_device=False
        )

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
    def test_a_wrong_token_with_a_device_is_asked_about_as_its_device_token(
        self, profile: Profile, peer: RequestInfo, hint: str
    ) -> None:
        """It could be a device token in the wrong field, so approval is asked first."""
        frame = connect(profile, token="wrong")
        question = question_of(frame, peer)
        assert (question.method, question.token_candidate) == ("device-token", "wrong")
        assert question.candidate_field == "token"
        refusal = refusal_after(frame, WRONG_DEVICE_TOKEN, peer)
        assert client_view(refusal) == mismatch(hint, with_device=True)

    @pytest.mark.parametrize("key", [KEY, None], ids=["device", "no device"])
    def test_a_wrong_password_is_refused(self, key: Any) -> None:
        frame = connect(key=key, token=None, password="wrong")
        assert client_view(refusal_of_wrong_secret(frame)) == mismatch(
            HINT_CLI_REMOTE, with_device=False
        )

    def test_a_right_token_in_the_password_field_is_accepted(self) -> None:
        question = question_of(connect(token=None, password=TOKEN))
        assert (question.method, question.token_candidate) == ("token", "")

    def test_protocol_3_knows_no_password(self) -> None:
        frame = connect(CLI_3, token=None, password=TOKEN)
        assert client_view(refusal_of(frame)) == missing(HINT_CLI_REMOTE)

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
    def test_a_device_without_any_secret_is_refused(
        self, profile: Profile, peer: RequestInfo, hint: str, token: str | None
    ) -> None:
        assert client_view(refusal_of(connect(profile, token=token), peer)) == missing(hint)

    def test_each_token_of_the_list_is_accepted(self) -> None:
        for token in (TOKEN, "gateway-token-of-32-characters-99"):
            assert question_of(connect(token=token)).method == "token"


class TestWithoutDevice:
    @pytest.mark.parametrize("profile", [CLI, REFERENCE], ids=["cli", "backend"])
    def test_a_client_without_device_and_secret_is_refused(self, profile: Profile) -> None:
        assert client_view(refusal_of(connect(profile, key=None, token=None))) == DEVICE_REQUIRED

    def test_device_token_proves_nothing_without_its_device(self) -> None:
        frame = connect(key=None, token=None, device_token="d")
        assert client_view(refusal_of(frame)) == DEVICE_REQUIRED

    def test_a_node_without_a_device_is_refused(self) -> None:
        assert client_view(refusal_of(connect(NODE_HOST, key=None, token=None))) == DEVICE_REQUIRED

    def test_a_node_with_a_right_token_still_needs_a_device(self) -> None:
        """Approval is asked first: a lock-out hides that it was right."""
        refusal = after_report(connect(NODE_HOST, key=None), right=True)
        assert isinstance(refusal, Refusal)
        assert client_view(refusal) == DEVICE_REQUIRED

    @pytest.mark.parametrize("profile", [CONTROL_UI, TUI], ids=["page", "tui"])
    @pytest.mark.parametrize("token", [TOKEN, "wrong", None], ids=["right", "wrong", "none"])
    def test_a_control_ui_without_a_device_is_refused(
        self, profile: Profile, token: str | None
    ) -> None:
        assert client_view(refusal_of(connect(profile, key=None, token=token), BROWSER)) == row(
            "control ui requires device identity (use HTTPS or localhost secure context)",
            {"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"},
        )


class TestDeviceToken:
    def test_a_wrong_device_token_is_refused_by_approval(self) -> None:
        frame = connect(token=None, device_token="old")
        question = question_of(frame)
        assert (question.method, question.token_candidate) == ("device-token", "old")
        assert question.candidate_field == "deviceToken"
        assert client_view(refusal_after(frame, WRONG_DEVICE_TOKEN)) == unauthorized(
            "device token mismatch (rotate/reissue device token)",
            "AUTH_DEVICE_TOKEN_MISMATCH",
            "device_token_mismatch",
            "update_auth_credentials",
        )

    def test_a_wrong_device_token_beside_a_wrong_gateway_token_is_refused(self) -> None:
        frame = connect(token="wrong", device_token="old")
        assert question_of(frame).token_candidate == "old"
        error, *_ = client_view(refusal_after(frame, WRONG_DEVICE_TOKEN))
        assert error is not None
        assert error["details"]["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"

    def test_a_wrong_device_token_in_the_token_field_is_refused(self) -> None:
        refusal = refusal_after(connect(token="old"), WRONG_DEVICE_TOKEN)
        assert client_view(refusal) == mismatch(HINT_CLI_REMOTE, with_device=True)

    def test_scopes_beyond_those_of_the_token_are_refused(self) -> None:
        frame = connect(token=None, device_token="d")
        assert client_view(refusal_after(frame, Denied(NOW, "scope-mismatch"))) == unauthorized(
            "device token scope mismatch (re-pair or approve scope upgrade)",
            "AUTH_SCOPE_MISMATCH",
            "scope_mismatch",
            "review_auth_configuration",
        )

    @pytest.mark.parametrize("why", ["setup-code-invalid", "device-token-mismatch"])
    def test_a_setup_code_is_refused(self, why: str) -> None:
        """An approval of the release before knows no setup codes: there is no device token."""
        frame = connect(token=None, bootstrap_token="b")
        assert client_view(refusal_after(frame, Denied(NOW, why))) == unauthorized(
            "setup code invalid, expired, revoked, or already used "
            "(create a new code; review `openclaw devices list`)",
            "AUTH_BOOTSTRAP_TOKEN_INVALID",
            "bootstrap_token_invalid",
            "review_auth_configuration",
        )

    def test_a_setup_code_is_refused_in_protocol_3(self) -> None:
        frame = connect(CLI_3, token=None, bootstrap_token="b")
        refused = refusal_after(frame, Denied(NOW, "setup-code-invalid"))
        assert client_view(refused) == unauthorized(
            "bootstrap token invalid or expired (scan a fresh setup code)",
            "AUTH_BOOTSTRAP_TOKEN_INVALID",
            "bootstrap_token_invalid",
            "review_auth_configuration",
        )

    def test_the_gateway_token_takes_precedence_over_a_device_token(self) -> None:
        question = question_of(connect(device_token="whatever"))
        told_along = (question.token_candidate, question.candidate_field)
        assert (question.method, told_along) == ("token", ("whatever", "deviceToken"))
        assert not question.wrong_gateway_token


class TestGuesses:
    """Each distinct wrong value in a connect is reported to approval, as a digest."""

    @staticmethod
    def shared(*values: str) -> list[Guess]:
        return [Guess(SHARED_SECRET, DIGESTS.of(value)) for value in values]

    def test_a_token_and_a_password_are_two(self) -> None:
        frame = connect(key=None, token="wrong", password="other")
        assert report_of(frame).guesses == self.shared("wrong", "other")

    def test_the_same_value_in_both_fields_is_one(self) -> None:
        frame = connect(key=None, token="wrong", password="wrong")
        assert report_of(frame).guesses == self.shared("wrong")

    def test_protocol_3_brings_no_password(self) -> None:
        frame = connect(CLI_3, key=None, token="wrong", password="other")
        assert report_of(frame).guesses == self.shared("wrong")

    def test_a_wrong_secret_beside_a_right_one_is_a_guess(self) -> None:
        right = report_of(connect(key=None, token="wrong", password=TOKEN))
        assert (right.right, right.guesses) == (True, self.shared("wrong"))
        question = question_of(connect(token="wrong", password=TOKEN))
        assert (question.method, question.guesses) == ("token", [DIGESTS.of("wrong")])

    def test_a_setup_code_is_asked_about_by_its_hash(self) -> None:
        """Beside a code, `token` is not tried as a device token; `deviceToken` is."""
        question = question_of(connect(token="wrong", bootstrap_token=" code "))
        assert question.setup_digest == digest_of("code")
        assert (question.method, question.token_candidate) == ("device-token", "")
        assert question.guesses == [DIGESTS.of("wrong")]
        question = question_of(connect(token=None, device_token="d", bootstrap_token="code"))
        assert (question.token_candidate, question.candidate_field) == ("d", "deviceToken")
        question = question_of(connect(bootstrap_token="code"))
        assert (question.method, question.setup_digest) == ("token", digest_of("code"))

    @pytest.mark.parametrize("blank", ["", "  "])
    def test_a_blank_setup_code_counts_as_absent(self, blank: str) -> None:
        assert client_view(refusal_of(connect(token=None, bootstrap_token=blank)))[0] is not None
        assert question_of(connect(bootstrap_token=blank)).setup_digest == ""

    def test_wrong_tokens_beside_a_device_token_are_guesses(self) -> None:
        question = question_of(connect(token="wrong", device_token="d", password="other"))
        assert question.guesses == [DIGESTS.of("wrong"), DIGESTS.of("other")]
        assert (question.wrong_gateway_token, question.candidate_offered) == (True, False)

    @pytest.mark.parametrize("secrets", [{}, {"device_token": "d"}], ids=["alone", "twice"])
    def test_what_may_be_a_device_token_is_a_guess_only_once_it_is_wrong(
        self, secrets: dict[str, Any]
    ) -> None:
        question = question_of(connect(token="d", **secrets))
        assert (question.guesses, question.candidate_offered) == ([], True)
        assert (question.gateway_token_failed, question.wrong_gateway_token) == (True, False)

    def test_no_secret_travels_but_the_device_token(self) -> None:
        frame = connect(token="wrong-gateway-token", device_token="d", password="wrong-password")
        told_approval = encode(question_of(frame))
        assert b"wrong-" not in told_approval

    def test_the_digests_are_those_of_the_first_bus_secret(self) -> None:
        one, both, other = (
            SecretDigests(secrets) for secrets in (["a" * 32], ["a" * 32, "b" * 32], ["b" * 32])
        )
        assert one.of("x") == both.of("x") != other.of("x")
        assert one.of("x", "device", "operator") != one.of("x", "deviceoperator")
        assert one.of("x", "device", "operator") != one.of("x", "device", "node")


def report_of(frame: Any) -> ReportSecret:
    """Return the ReportSecret of a connect."""
    effect = evaluate(frame)
    assert isinstance(effect, ReportSecret), effect
    return effect
