from __future__ import annotations

import json
from typing import Any

import pytest

from tools.load.client.verdicts import (
    Answer,
    Broken,
    Kind,
    Outcome,
    judge,
    read_answer,
    read_challenge,
)

HELLO = {"type": "res", "id": "1", "ok": True, "payload": {"type": "hello-ok", "auth": {}}}


def no(code: str, detail: str = "") -> Answer:
    frame = {"type": "res", "id": "1", "ok": False, "error": {"code": code, "message": "m"}}
    if detail:
        frame["error"]["details"] = {"code": detail, "requestId": "r"}  # type: ignore[index]
    return answered(frame)


def answered(frame: Any) -> Answer:
    answer = read_answer(json.dumps(frame).encode())
    assert answer
    return answer


class TestJudging:
    def test_an_approved_device_that_is_admitted_is_right(self) -> None:
        assert judge(approved=True, answer=answered(HELLO), close=None, problem="") == Outcome(
            Kind.ADMITTED
        )

    def test_an_unapproved_client_that_is_admitted_is_wrong(self) -> None:
        outcome = judge(approved=False, answer=answered(HELLO), close=(1000, ""), problem="")
        assert outcome.kind is Kind.WRONGLY_ADMITTED

    def test_an_unapproved_client_that_is_asked_to_pair_is_right(self) -> None:
        close = (1008, "pairing required: device is not approved yet (requestId: 220dd984-79b3)")
        outcome = judge(
            approved=False, answer=no("NOT_PAIRED", "PAIRING_REQUIRED"), close=close, problem=""
        )
        assert outcome == Outcome(
            Kind.REFUSED,
            "NOT_PAIRED PAIRING_REQUIRED",
            1008,
            "pairing required: device is not approved yet",
        )

    def test_the_request_id_is_left_out_where_it_was_cut(self) -> None:
        outcome = judge(
            approved=False,
            answer=no("NOT_PAIRED", "PAIRING_REQUIRED"),
            close=(1008, "pairing required: x (requestId: 220d"),
            problem="",
        )
        assert outcome.close_reason == "pairing required: x"

    @pytest.mark.parametrize(
        "answer", [no("NOT_PAIRED", "PAIRING_REQUIRED"), no("INVALID_REQUEST", "AUTH_RATE_LIMITED")]
    )
    def test_an_approved_device_that_is_refused_is_wrong(self, answer: Answer) -> None:
        outcome = judge(approved=True, answer=answer, close=(1008, "x"), problem="")
        assert outcome.kind is Kind.WRONGLY_REFUSED

    def test_an_unapproved_client_refused_for_another_reason_is_wrong(self) -> None:
        outcome = judge(
            approved=False,
            answer=no("INVALID_REQUEST", "AUTH_TOKEN_MISMATCH"),
            close=None,
            problem="",
        )
        assert outcome.kind is Kind.WRONGLY_REFUSED

    @pytest.mark.parametrize("approved", [True, False])
    def test_unavailable_is_no_verdict(self, *, approved: bool) -> None:
        outcome = judge(
            approved=approved,
            answer=no("UNAVAILABLE"),
            close=(1013, "approval unavailable"),
            problem="",
        )
        assert outcome == Outcome(Kind.UNAVAILABLE, "UNAVAILABLE", 1013, "approval unavailable")

    @pytest.mark.parametrize("code", [1012, 1013])
    def test_a_close_that_asks_to_retry_is_no_verdict(self, code: int) -> None:
        outcome = judge(approved=True, answer=None, close=(code, "r"), problem="")
        assert outcome.kind is Kind.UNAVAILABLE

    def test_an_attempt_without_an_answer_failed(self) -> None:
        assert judge(approved=True, answer=None, close=None, problem="timed out") == Outcome(
            Kind.FAILED, "timed out"
        )
        assert judge(approved=True, answer=None, close=None, problem="").what == "cut off"
        assert judge(approved=True, answer=None, close=(1000, ""), problem="").kind is Kind.FAILED


class TestReading:
    def test_a_challenge_is_read(self) -> None:
        frame = b'{"type":"event","event":"connect.challenge","payload":{"nonce":"n","ts":5,"x":1}}'
        challenge = read_challenge(frame)
        assert (challenge.nonce, challenge.ts) == ("n", 5)

    @pytest.mark.parametrize(
        "frame", [b"", b"[]", b'{"event":"tick","payload":{"nonce":"n","ts":5}}', b'{"event":1}']
    )
    def test_another_frame_is_no_challenge(self, frame: bytes) -> None:
        with pytest.raises(Broken):
            read_challenge(frame)

    def test_events_are_ignored(self) -> None:
        assert read_answer(b'{"type":"event","event":"tick","payload":{"ok":true}}') is None

    def test_the_device_token_and_the_request_id_are_read(self) -> None:
        hello = answered({**HELLO, "payload": {"type": "hello-ok", "auth": {"deviceToken": "t"}}})
        assert hello.payload
        assert hello.payload.auth.device_token == "t"
        error = no("NOT_PAIRED", "PAIRING_REQUIRED").error
        assert error
        assert error.details.request_id == "r"

    @pytest.mark.parametrize(
        "frame",
        [b"x", b'{"type":"res","ok":true}', b'{"type":"res","ok":true,"payload":{"type":"bye"}}'],
    )
    def test_another_frame_is_no_answer(self, frame: bytes) -> None:
        with pytest.raises(Broken):
            read_answer(frame)
