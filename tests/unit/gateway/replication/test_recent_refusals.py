"""What a gateway remembers of a refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from services.gateway.replication.recent_refusals import (
    DETAIL_LIMIT_CHARACTERS,
    NAME_LIMIT_CHARACTERS,
    RecentRefusals,
)
from shared.device.profile import CLI, CLI_3, CONTROL_UI
from shared.protocol import refusals
from shared.protocol.connect import DOCTOR_NAME
from shared.protocol.limits import SIGNED_AT_SKEW_MS
from shared.protocol.refusals import Refusal
from shared.rpc.messages import Denied, LockedOut, NeedsPairing, TooManyPending
from shared.rpc.reports import RefusalReport
from tests.support.attempts import (
    CLEAR,
    NOW_MS,
    OTHER_KEY,
    PAGE,
    REMOTE,
    alter,
    connect,
    new_handshake,
    to_bytes,
)
from tests.unit.gateway.replication.refusals_case import (
    NOW,
    STALE,
    Attempt,
    device,
    note,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.handshake.outcome import RequestInfo
    from shared.device.profile import Profile
    from shared.rpc.messages import Answer
    from tests.support.attempts import Frame


def met(frame: object, answer: Answer | None = None, peer: RequestInfo = REMOTE) -> RefusalReport:
    """Pass a first frame to a real handshake, answer it, and return the reported refusal."""
    handshake = new_handshake(peer)
    effect = handshake.on_frame(to_bytes(frame), now_ms=NOW_MS)
    if not isinstance(effect, Refusal):
        assert answer is not None, effect
        received = handshake.on_answer(answer)
        assert isinstance(received, Refusal)
        effect = received
    recent = RecentRefusals()
    recent.note(handshake, peer, effect, 0.0)
    (report,) = recent.report(1, 0.0)
    return report


class TestWhatIsReported:
    def test_a_proven_device_with_everything_that_helps_to_find_the_cause(self) -> None:
        recent = RecentRefusals()
        who = Attempt(device(7), proven=True, name="Kitchen Mac")
        note(recent, who, refusals.DEVICE_TOKEN_MISMATCH, when=1.0)
        note(recent, who, refusals.DEVICE_TOKEN_MISMATCH, when=2.5)
        assert recent.report(1, 4.0) == [
            RefusalReport(
                reason="device-token-mismatch",
                undecided=False,
                device_id=device(7),
                proven=True,
                address="203.0.113.7",
                number=1,
                count=2,
                confirmed=0,
                age_ms=1500,
                first_age_ms=3000,
                client_id="cli",
                display_name="Kitchen Mac",
            )
        ]

    def test_another_reason_starts_another_run(self) -> None:
        recent = RecentRefusals()
        for refusal in (STALE, STALE, refusals.SIGNATURE_INVALID):
            note(recent, Attempt(device(1)), refusal)
        (report,) = recent.report(1, 0.0)
        assert (report.reason, report.number, report.count) == ("device-signature", 2, 1)

    def test_claims_and_proofs_of_one_device_are_apart(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1), proven=True), refusals.DEVICE_TOKEN_MISMATCH)
        for _ in range(100):
            note(recent, Attempt(device(1)), refusals.SIGNATURE_INVALID)
        reports = recent.report(1, 0.0)
        assert [(report.proven, report.reason, report.count) for report in reports] == [
            (True, "device-token-mismatch", 1),
            (False, "device-signature", 100),
        ]

    @pytest.mark.parametrize("claimed", ["", "x", "A" * 64, "0" * 65, "<script>", "0" * 65_000])
    def test_what_is_no_device_id_is_kept_by_address_and_reason(self, claimed: str) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(claimed, proven=True), refusals.DEVICE_ID_MISMATCH)
        note(recent, Attempt(claimed), refusals.INVALID_ROLE)
        reports = recent.report(1, 0.0)
        assert [(report.device_id, report.proven, report.reason) for report in reports] == [
            ("", False, "device-id-mismatch"),
            ("", False, "invalid-role"),
        ]

    def test_long_texts_are_cut(self) -> None:
        recent = RecentRefusals()
        refusal = refusals.invalid_params(["x" * 10_000], 4)
        note(recent, Attempt(device(1), name="n" * 128), refusal)
        (report,) = recent.report(1, 0.0)
        assert len(report.detail) == DETAIL_LIMIT_CHARACTERS
        assert len(report.display_name) == NAME_LIMIT_CHARACTERS


TOO_OLD = SIGNED_AT_SKEW_MS + 1
PROVEN, CLAIMED, ABSENT = True, False, None
ORIGIN = "https://other.example"


class TestReasons:
    @pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["protocol 4", "protocol 3"])
    def test_each_reason_for_an_unproven_claim_is_reported(self, profile: Profile) -> None:
        def change(name: str, value: object) -> Callable[[Frame], object]:
            return lambda params: params["device"].update({name: value})

        sound = connect(profile)
        by_token = connect(profile, token=None, device_token="d")
        wrong = connect(profile, token="wrong")
        cases: list[tuple[object, Answer | None, bool | None, str]] = [
            (b"{", None, ABSENT, "not-json"),
            ([], None, ABSENT, "invalid-frame"),
            ({"type": "req", "id": "1", "method": "x"}, None, ABSENT, "not-connect"),
            (alter(sound, lambda params: params.pop("client")), None, ABSENT, "invalid-params"),
            (
                alter(sound, lambda params: params.update(minProtocol=9, maxProtocol=9)),
                None,
                CLAIMED,
                "protocol-mismatch",
            ),
            (alter(sound, lambda params: params.update(role="x")), None, CLAIMED, "invalid-role"),
            (connect(profile, key=None, token=None), None, ABSENT, "device-required"),
            (connect(profile, key=None, token="wrong"), CLEAR, ABSENT, "token-mismatch"),
            (
                alter(sound, change("id", OTHER_KEY.device_id)),
                None,
                CLAIMED,
                "device-id-mismatch",
            ),
            (
                alter(sound, change("signedAt", NOW_MS - TOO_OLD)),
                None,
                CLAIMED,
                "device-signature-stale",
            ),
            (alter(sound, change("nonce", " ")), None, CLAIMED, "device-nonce-missing"),
            (alter(sound, change("nonce", "x")), None, CLAIMED, "device-nonce-mismatch"),
            (alter(sound, change("signature", "AA")), None, CLAIMED, "device-signature"),
            (connect(profile, token=None), None, PROVEN, "token-missing"),
            (
                connect(profile, token=None, bootstrap_token="b"),
                Denied(NOW, "setup-code-invalid"),
                PROVEN,
                "bootstrap-token-invalid",
            ),
            (wrong, Denied(NOW, "device-token-mismatch"), PROVEN, "token-mismatch"),
            (wrong, LockedOut(NOW, 5_000), PROVEN, "rate-limited"),
            (by_token, Denied(NOW, "device-token-mismatch"), PROVEN, "device-token-mismatch"),
            (by_token, Denied(NOW, "scope-mismatch"), PROVEN, "scope-mismatch"),
            (sound, Denied(NOW, "key-mismatch"), PROVEN, "key-mismatch"),
            *(
                (sound, NeedsPairing(NOW, reason, "request-1"), PROVEN, reason)
                for reason in ("not-paired", "role-upgrade", "scope-upgrade", "metadata-upgrade")
            ),
        ]
        for frame, answer, proven, reason in cases:
            report = met(frame, answer)
            assert report.reason == reason
            assert not report.undecided
            place = report.proven if report.device_id else ABSENT
            assert place is proven, reason

    def test_a_client_that_is_being_connected_upstream_is_reported_only_if_that_fails(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(7), proven=True), refusals.starting(100, routine=True))
        assert len(recent) == 0
        note(recent, Attempt(device(7), proven=True), refusals.starting(2000, routine=False))
        (report,) = recent.report(1, 0.0)
        assert (report.reason, report.undecided) == ("upstream", True)

    def test_what_nobody_could_decide_is_no_refusal(self) -> None:
        report = met(connect(), TooManyPending(NOW))
        assert (report.reason, report.undecided, report.proven) == ("pending-limit", True, True)
        handshake = new_handshake()
        handshake.on_frame(to_bytes(connect()), now_ms=NOW_MS)
        recent = RecentRefusals()
        refusal = handshake.on_unavailable("timeout", "approval", retry_after_ms=1)
        recent.note(handshake, REMOTE, refusal, 0.0)
        (report,) = recent.report(1, 0.0)
        assert (report.reason, report.undecided, report.detail) == ("timeout", True, "approval")

    @pytest.mark.parametrize(
        ("origin", "detail"),
        [(ORIGIN, ORIGIN), ("null", "null"), ("https://user:secret@x", ""), ("<script>", "")],
    )
    def test_a_valid_origin_is_reported(self, origin: str, detail: str) -> None:
        report = met(connect(CONTROL_UI), peer=structs.replace(REMOTE, origin=origin))
        assert (report.reason, report.detail) == ("origin", detail)

    def test_a_report_contains_the_fact_that_helps(self) -> None:
        frame = alter(connect(), lambda params: params.update(minProtocol=9, maxProtocol=11))
        assert met(frame).detail == "9 to 11"
        answer = NeedsPairing(NOW, "not-paired", "request-1")
        assert met(connect(), answer).detail == "request-1"
        frame = alter(connect(), lambda params: params["client"].pop("id"))
        assert met(frame).detail == "at /client: must have required property 'id'"


class TestTheDoctor:
    """Its checks are refused on purpose; nobody has to act on that."""

    @pytest.mark.parametrize(
        "frame",
        [
            connect(replace(CLI, display_name=DOCTOR_NAME), token=None),
            connect(replace(CLI, display_name=DOCTOR_NAME), key=None, token=None),
            connect(replace(CONTROL_UI, display_name=DOCTOR_NAME), key=None, token=None),
        ],
    )
    def test_checks_without_a_secret_are_not_recorded(self, frame: Frame) -> None:
        peer = structs.replace(REMOTE, origin=PAGE)
        handshake = new_handshake(peer)
        refusal = handshake.on_frame(to_bytes(frame), now_ms=NOW_MS)
        assert isinstance(refusal, Refusal)
        recent = RecentRefusals()
        recent.note(handshake, peer, refusal, 0.0)
        assert len(recent) == 0

    def test_a_wrong_secret_is_recorded_whatever_name_is_given(self) -> None:
        frame = connect(replace(CLI, display_name=DOCTOR_NAME), key=None, token="wrong")
        assert met(frame, CLEAR).display_name == DOCTOR_NAME

    def test_others_without_a_secret_are_recorded(self) -> None:
        assert met(connect(CLI, token=None)).display_name != DOCTOR_NAME
