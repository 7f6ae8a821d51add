"""Any first frame, however malformed, gets a documented answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from services.gateway.handshake.handshake import State
from services.gateway.handshake.outcome import Accepted, RequestInfo
from shared.device.handshake import Challenge, Credentials, connect_request
from shared.device.profile import PROFILES
from shared.protocol.refusals import Refusal
from shared.rpc.messages import (
    SHARED_SECRET,
    Admitted,
    Answer,
    AuthorizeDevice,
    Denied,
    LockedOut,
    NeedsPairing,
    Position,
    ReportSecret,
    SecretAccepted,
    TooManyPending,
    decode_question,
    encode,
)
from tests.support.attempts import (
    CONNECTION_ID,
    KEY,
    NONCE,
    NOW_MS,
    OLDER_TOKEN,
    OTHER_KEY,
    PAGE,
    TOKEN,
    client_view,
    new_handshake,
)
from tests.support.websocket.frames import SCOPES, damaged, first_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn, SearchStrategy

WITHOUT_FRAME: Final = {(1000, ""), (1008, "invalid request frame"), (1008, "invalid-handshake")}
WITHOUT_DETAIL_CODE: Final = (
    "invalid connect params: ",
    "invalid role",
    "invalid handshake: first request must be connect",
)
DOCUMENTED: Final = {
    ("INVALID_REQUEST", "AUTH_TOKEN_MISSING", 1008),
    ("NOT_PAIRED", "DEVICE_IDENTITY_REQUIRED", 1008),
    ("INVALID_REQUEST", "CONTROL_UI_DEVICE_IDENTITY_REQUIRED", 1008),
    ("INVALID_REQUEST", "DEVICE_AUTH_DEVICE_ID_MISMATCH", 1008),
    ("INVALID_REQUEST", "DEVICE_AUTH_SIGNATURE_EXPIRED", 1008),
    ("INVALID_REQUEST", "DEVICE_AUTH_NONCE_REQUIRED", 1008),
    ("INVALID_REQUEST", "DEVICE_AUTH_NONCE_MISMATCH", 1008),
    ("INVALID_REQUEST", "DEVICE_AUTH_SIGNATURE_INVALID", 1008),
    ("INVALID_REQUEST", "PROTOCOL_MISMATCH", 1002),
    ("INVALID_REQUEST", "CONTROL_UI_ORIGIN_NOT_ALLOWED", 1008),
}
"""Possible outcomes of a first frame alone."""
LOCKED_OUT: Final = ("INVALID_REQUEST", "AUTH_RATE_LIMITED", 1008)
BY_REPORT: Final = {
    ("INVALID_REQUEST", "AUTH_TOKEN_MISMATCH", 1008),
    ("INVALID_REQUEST", "AUTH_BOOTSTRAP_TOKEN_INVALID", 1008),
    ("NOT_PAIRED", "DEVICE_IDENTITY_REQUIRED", 1008),
    LOCKED_OUT,
}
"""Possible outcomes of a secret that is only reported to approval."""
BY_ANSWER: Final = {
    LOCKED_OUT,
    ("NOT_PAIRED", "PAIRING_REQUIRED", 1008),
    ("INVALID_REQUEST", "AUTH_TOKEN_MISMATCH", 1008),
    ("INVALID_REQUEST", "AUTH_DEVICE_TOKEN_MISMATCH", 1008),
    ("INVALID_REQUEST", "AUTH_SCOPE_MISMATCH", 1008),
    ("INVALID_REQUEST", "DEVICE_AUTH_DEVICE_ID_MISMATCH", 1008),
    ("UNAVAILABLE", "UNAVAILABLE", 1013),
}
"""Possible outcomes of approval's answer."""

secrets = st.sampled_from([None, "", TOKEN, OLDER_TOKEN, "wrong", "é|,\x00"])
origins = st.one_of(
    st.none(), st.sampled_from([PAGE, "null", "http://localhost"]), st.text(max_size=30)
)
peers: SearchStrategy[RequestInfo] = st.builds(
    RequestInfo,
    address=st.sampled_from(["203.0.113.7", "127.0.0.1", "2001:db8::1"]),
    direct_loopback=st.booleans(),
    host=st.one_of(
        st.sampled_from(["", "localhost:18789", "gateway.example"]), st.text(max_size=9)
    ),
    origin=origins,
)
changes = st.builds(Position, st.integers(0, 2**40), st.text(max_size=4))
names = st.one_of(st.none(), st.lists(st.text(max_size=5), max_size=3))
answers: SearchStrategy[Answer] = st.one_of(
    st.builds(
        Admitted, changes, st.text(max_size=5), st.lists(st.text(max_size=4)), st.integers(0)
    ),
    st.builds(
        NeedsPairing,
        changes,
        st.sampled_from(["not-paired", "role-upgrade", "scope-upgrade", "metadata-upgrade"]),
        st.text(max_size=40),
        names,
        names,
    ),
    st.builds(
        Denied,
        changes,
        st.sampled_from(["device-token-mismatch", "scope-mismatch", "key-mismatch", "new"]),
    ),
    st.builds(TooManyPending, changes),
    st.builds(LockedOut, changes, st.integers(1, 300_000)),
)
counted: SearchStrategy[SecretAccepted | LockedOut] = st.one_of(
    st.builds(SecretAccepted, changes), st.builds(LockedOut, changes, st.integers(1, 300_000))
)


@st.composite
def signed_frames(draw: DrawFn) -> dict[str, Any]:
    """Draw a validly signed connect of any client, with any secrets."""
    profile = replace(
        draw(st.sampled_from(list(PROFILES.values()))),
        role=draw(st.sampled_from([None, "operator", "node", "worker", "other"])),
        scopes=draw(st.one_of(st.none(), st.lists(st.sampled_from(SCOPES)).map(tuple))),
        display_name=draw(st.one_of(st.none(), st.text(min_size=1, max_size=300))),
        signature_version=draw(st.sampled_from([2, 3])),
        min_protocol=draw(st.integers(1, 5)),
        max_protocol=draw(st.integers(3, 5)),
    )
    challenge = Challenge(
        draw(st.sampled_from([NONCE, NONCE, NONCE, f" {NONCE}\n", "other", " "])),
        draw(st.sampled_from([NOW_MS, NOW_MS, NOW_MS, NOW_MS - 120_000, 0, 2**60])),
    )
    credentials = Credentials(
        token=draw(secrets),
        device_token=draw(secrets),
        bootstrap_token=draw(secrets),
        password=draw(secrets),
    )
    key = draw(st.sampled_from([KEY, OTHER_KEY, None]))
    return connect_request(
        challenge, key, profile, credentials, draw(st.text(min_size=1, max_size=5))
    )


def is_documented(refusal: Refusal, table: set[tuple[str, str, int]]) -> None:
    """Check that a refusal is documented and can be sent."""
    error, close_code, reason = client_view(refusal)
    assert len(reason.encode()) <= 120
    if error is None:
        assert (close_code, reason) in WITHOUT_FRAME
        return
    assert error["details"]["connectionId"] == CONNECTION_ID
    if "code" in error["details"]:
        assert (error["code"], error["details"]["code"], close_code) in table
    else:
        assert (error["code"], close_code) == ("INVALID_REQUEST", 1008)
        assert error["message"].startswith(WITHOUT_DETAIL_CODE)
    assert len(json.dumps(error)) < 70_000


def is_admissible(welcome: Accepted) -> None:
    """Check that a client admitted without a device had the gateway token and got no scope."""
    assert (welcome.device_id, welcome.answer) == ("", None)
    assert welcome.grant == msgspec.structs.replace(
        welcome.grant, method="token", role="operator", scopes=(), device_token=""
    )


def is_countable(report: ReportSecret, peer: RequestInfo) -> None:
    """Check that the report to approval is complete and decodable."""
    assert (report.call_id, report.address) == (CONNECTION_ID, peer.address)
    assert report.classes == [SHARED_SECRET]
    assert decode_question(encode(report)) == report


def is_askable(question: AuthorizeDevice) -> None:
    """Check that the request to approval is proven and decodable."""
    assert question.device_id in {KEY.device_id, OTHER_KEY.device_id}
    assert question.role in {"operator", "node"}
    assert question.method in {"token", "device-token"}
    assert question.method == "token" or question.token_candidate or question.setup_digest
    assert question.method == "device-token" or question.candidate_field != "token"
    assert len(question.client.display_name) <= 128
    assert decode_question(encode(question)) == question


def meets_a_documented_answer(
    text: bytes, peer: RequestInfo, answer: Answer, count: SecretAccepted | LockedOut
) -> None:
    handshake = new_handshake(peer)
    effect = handshake.on_frame(text, now_ms=NOW_MS)
    assert not isinstance(effect, Accepted)
    if isinstance(effect, Refusal):
        is_documented(effect, DOCUMENTED)
        assert handshake.state is State.DONE
        return
    assert handshake.state is State.ASKING
    if isinstance(effect, ReportSecret):
        is_countable(effect, peer)
        verdict = handshake.on_answer(count)
        if isinstance(verdict, Refusal):
            is_documented(verdict, BY_REPORT)
            assert (verdict.outcome == "rate-limited") == isinstance(count, LockedOut)
            if isinstance(count, SecretAccepted):
                assert effect.right == (verdict.outcome == "device-required")
        else:
            assert effect.right
            is_admissible(verdict)
    else:
        is_askable(effect)
        verdict = handshake.on_answer(answer)
        if isinstance(verdict, Refusal):
            is_documented(verdict, BY_ANSWER)
        else:
            assert isinstance(answer, Admitted)
            assert list(verdict.grant.scopes) == effect.scopes
    assert handshake.state.name == "DONE"


@given(first_frames, peers, answers, counted)
def test_any_bytes_get_a_documented_answer(
    text: bytes, peer: RequestInfo, answer: Answer, count: SecretAccepted | LockedOut
) -> None:
    meets_a_documented_answer(text, peer, answer, count)


@given(signed_frames(), peers, answers, counted)
def test_any_signed_connect_gets_a_documented_answer(
    frame: Any, peer: RequestInfo, answer: Answer, count: SecretAccepted | LockedOut
) -> None:
    meets_a_documented_answer(json.dumps(frame).encode(), peer, answer, count)


@given(damaged(signed_frames()), peers, answers, counted)
def test_any_signed_connect_that_was_damaged(
    frame: Any, peer: RequestInfo, answer: Answer, count: SecretAccepted | LockedOut
) -> None:
    meets_a_documented_answer(json.dumps(frame).encode(), peer, answer, count)


@given(signed_frames())
def test_the_same_frame_meets_the_same_answer_however_it_is_spelled(frame: Any) -> None:
    assume(frame["params"].get("role") != "worker")  # the versions differ, and so do the two ways
    spelled: list[Callable[[], bytes]] = [
        lambda: json.dumps(frame).encode(),
        lambda: json.dumps(frame, ensure_ascii=False, indent=3).encode(),
        lambda: json.dumps(dict(reversed(frame.items()))).encode(),
        lambda: (
            json.dumps(frame).replace('"type": "req"', '"type": "event", "type": "req"').encode()
        ),
    ]
    effects = [new_handshake().on_frame(text(), now_ms=NOW_MS) for text in spelled]
    assert all(effect == effects[0] for effect in effects)
