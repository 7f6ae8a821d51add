"""Attacks on the pure handshake."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from services.gateway.handshake.outcome import Session
from services.gateway.methods.dispatcher import Dispatcher
from shared.device.handshake import Challenge
from shared.device.profile import CLI, CONTROL_UI, NODE_HOST, Profile
from shared.protocol.refusals import Refusal
from shared.protocol.signing import decode_base64, device_id_of, encode_base64
from shared.rpc.messages import AuthorizeDevice
from tests.support.attempts import (
    BROWSER,
    CHALLENGE,
    KEY,
    LOCAL,
    NOW_MS,
    OTHER_KEY,
    REMOTE,
    TOKEN,
    acceptance_of,
    after_report,
    alter,
    connect,
    detail_code,
    evaluate,
    new_handshake,
    question_of,
    refusal_of,
    refusal_of_wrong_secret,
    to_bytes,
)

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import RequestInfo

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


class TestOrigin:
    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "https://ok.example.evil",
            "https://okexample",
            "https://evil-ok.example",
            "https://ok.example.",
            "http://ok.example",
            "https://ok.example:8443",
            "https://ok.example@evil.example",
            "https://evil.example/https://ok.example",
            "https://evil.example#https://ok.example",
            "https://ok.example\\.evil.example",
            "https://gateway.example",
            "null",
            "",
            "*",
            "ok.example",
            "//ok.example",
            "wss://ok.example",
            "javascript://ok.example",
            "https://[::1",
            "https://ok.example:99999",
        ],
    )
    @pytest.mark.parametrize("profile", [CONTROL_UI, CLI], ids=["page", "cli"])
    def test_a_foreign_origin_is_refused(self, origin: str, profile: Profile) -> None:
        """Approval is not asked; the client gets an error frame and close code 1008."""
        refusal = refusal_of(connect(profile), structs.replace(REMOTE, origin=origin))
        assert detail_code(refusal) == "CONTROL_UI_ORIGIN_NOT_ALLOWED"
        assert refusal.close_code == 1008

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://localhost:5173", "localhost:18789"),
            ("http://127.0.0.1:18789", "127.0.0.1:18789"),
            ("http://[::1]:18789", "[::1]:18789"),
        ],
    )
    def test_loopback_pages_are_for_local_clients(self, origin: str, host: str) -> None:
        frame = connect(CONTROL_UI)
        assert (
            question_of(frame, structs.replace(LOCAL, origin=origin, host=host)).address
            == "127.0.0.1"
        )
        refusal = refusal_of(frame, structs.replace(REMOTE, origin=origin, host=host))
        assert detail_code(refusal) == "CONTROL_UI_ORIGIN_NOT_ALLOWED"

    def test_without_an_origin_only_the_proof_counts(self) -> None:
        assert question_of(connect()).device_id == KEY.device_id

    @pytest.mark.parametrize("origin", ["https://ok.example", "https://OK.example:443"])
    def test_the_allowed_page_is_admitted(self, origin: str) -> None:
        question = question_of(connect(CONTROL_UI), structs.replace(REMOTE, origin=origin))
        assert question.client.id == "openclaw-control-ui"


class TestFirstFrame:
    @pytest.mark.parametrize(
        "frame",
        [
            {
                "type": "req",
                "id": "1",
                "method": "device.pair.approve",
                "params": {"requestId": "r"},
            },
            {"type": "req", "id": "1", "method": "health"},
            [connect()],
            [],
            b"[" * 60_000,
            b'{"type":"req","id":"1","method":"connect","params":' + b'{"a":' * 10_000,
            b"\x82\x7f\x00\xff",
            b"",
        ],
    )
    def test_any_first_frame_but_connect_is_refused(self, frame: Any) -> None:
        effect = evaluate(frame)
        assert isinstance(effect, Refusal)
        assert effect.close_code in {1000, 1008}


class TestReplay:
    @pytest.mark.parametrize("connection_id", ["boot:8", "other:1"], ids=["same", "other replica"])
    def test_a_captured_connect_fails_on_another_socket(self, connection_id: str) -> None:
        captured = to_bytes(connect())
        assert isinstance(new_handshake().on_frame(captured, now_ms=NOW_MS), AuthorizeDevice)

        other = new_handshake(
            nonce="0d2a5c1e-0000-4000-8000-000000000000", connection_id=connection_id
        )
        effect = other.on_frame(captured, now_ms=NOW_MS + 1)
        assert isinstance(effect, Refusal)
        assert detail_code(effect) == "DEVICE_AUTH_NONCE_MISMATCH"

    def test_a_captured_connect_with_the_new_nonce_fails(self) -> None:
        other = new_handshake(nonce="0d2a5c1e-0000-4000-8000-000000000000")
        frame = alter(connect(), lambda p: p["device"].update(nonce=other.nonce))
        effect = other.on_frame(to_bytes(frame), now_ms=NOW_MS)
        assert isinstance(effect, Refusal)
        assert detail_code(effect) == "DEVICE_AUTH_SIGNATURE_INVALID"


def twin(signature: str) -> str:
    """Return a signature's malleable twin, which a careless verifier accepts: S plus the order."""
    raw = decode_base64(signature)
    assert raw is not None
    scalar = int.from_bytes(raw[32:], "little") + GROUP_ORDER
    return encode_base64(raw[:32] + scalar.to_bytes(32, "little"))


def low_order_device() -> dict[str, Any]:
    raw = bytes(31) + b"\x80"
    return {
        "id": device_id_of(raw),
        "publicKey": encode_base64(raw),
        "signature": encode_base64(b"\x01" + bytes(63)),
    }


class TestProof:
    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (
                connect(challenge=Challenge(CHALLENGE.nonce, NOW_MS - 120_001)),
                "DEVICE_AUTH_SIGNATURE_EXPIRED",
            ),
            (
                connect(challenge=Challenge(CHALLENGE.nonce, NOW_MS + 120_001)),
                "DEVICE_AUTH_SIGNATURE_EXPIRED",
            ),
            (connect(challenge=Challenge(CHALLENGE.nonce, 0)), "DEVICE_AUTH_SIGNATURE_EXPIRED"),
            (
                alter(
                    connect(key=OTHER_KEY),
                    lambda p: p["device"].update(id=KEY.device_id, publicKey=KEY.public_key),
                ),
                "DEVICE_AUTH_SIGNATURE_INVALID",
            ),
            (
                alter(connect(), lambda p: p["device"].update(id=OTHER_KEY.device_id)),
                "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            ),
            (
                alter(
                    connect(),
                    lambda p: p["device"].update(signature=twin(p["device"]["signature"])),
                ),
                "DEVICE_AUTH_SIGNATURE_INVALID",
            ),
            (
                alter(connect(), lambda p: p["device"].update(low_order_device())),
                "DEVICE_AUTH_SIGNATURE_INVALID",
            ),
            (
                alter(
                    connect(),
                    lambda p: p["device"].update(
                        signature=(decode_base64(p["device"]["signature"]) or b"").hex()
                    ),
                ),
                "DEVICE_AUTH_SIGNATURE_INVALID",
            ),
            (
                alter(
                    connect(),
                    lambda p: p["device"].update(
                        publicKey=(decode_base64(p["device"]["publicKey"]) or b"").hex()
                    ),
                ),
                "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            ),
            (
                alter(
                    connect(),
                    lambda p: p["device"].update(
                        publicKey="MCowBQYDK2VwAyEA" + p["device"]["publicKey"]
                    ),
                ),
                "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            ),
        ],
        ids=[
            "old",
            "future",
            "at zero",
            "other key's signature",
            "id of another key",
            "malleable signature",
            "low-order key",
            "signature in hex",
            "key in hex",
            "key in DER",
        ],
    )
    def test_a_broken_proof_is_refused(self, frame: Any, code: str) -> None:
        """Each fault has its own code, and approval is not asked."""
        refusal = refusal_of(frame)
        assert detail_code(refusal) == code
        assert refusal.close_code == 1008


ALTERATIONS = {
    "role": lambda p: p.update(role="node"),
    "more scopes": lambda p: p["scopes"].append("operator.admin"),
    "fewer scopes": lambda p: p["scopes"].clear(),
    "scopes left out": lambda p: p.pop("scopes"),
    "scopes in another order": lambda p: p["scopes"].reverse(),
    "token": lambda p: p["auth"].update(token=TOKEN[:-2] + "99"),
    "token left out": lambda p: p["auth"].pop("token"),
    "device token beside an absent token": lambda p: p.update(auth={"deviceToken": "x"}),
    "client id": lambda p: p["client"].update(id="test"),
    "client mode": lambda p: p["client"].update(mode="ui"),
    "time": lambda p: p["device"].update(signedAt=NOW_MS + 1),
}
NOT_IN_VERSION_2 = {
    "platform": lambda p: p["client"].update(platform="windows"),
    "device family": lambda p: p["client"].update(deviceFamily="Mac"),
    "device family left out": lambda p: p["client"].pop("deviceFamily"),
}
TWO_SCOPES = CLI.with_scopes("operator.read", "operator.pairing")


class TestAlteredAfterSigning:
    @pytest.mark.parametrize("name", [*ALTERATIONS, *NOT_IN_VERSION_2])
    def test_an_altered_version_3_connect_is_refused(self, name: str) -> None:
        frame = alter(connect(TWO_SCOPES), (ALTERATIONS | NOT_IN_VERSION_2)[name])
        assert detail_code(refusal_of(frame)) == "DEVICE_AUTH_SIGNATURE_INVALID"

    @pytest.mark.parametrize("name", ALTERATIONS)
    def test_an_altered_version_2_connect_is_refused(self, name: str) -> None:
        profile = replace(TWO_SCOPES, signature_version=2)
        frame = alter(connect(profile), ALTERATIONS[name])
        assert detail_code(refusal_of(frame)) == "DEVICE_AUTH_SIGNATURE_INVALID"

    @pytest.mark.parametrize("name", NOT_IN_VERSION_2)
    def test_version_2_does_not_cover_the_platform(self, name: str) -> None:
        """As in the original: browsers sign version 2, so their platform is only a claim."""
        profile = replace(TWO_SCOPES, signature_version=2)
        question = question_of(alter(connect(profile), NOT_IN_VERSION_2[name]))
        assert question.device_id == KEY.device_id

    def test_a_device_token_added_beside_the_signed_token_is_ignored(self) -> None:
        """Only the first token present is signed, and only it is used."""
        frame = alter(connect(), lambda p: p["auth"].update(deviceToken="stolen"))
        question = question_of(frame)
        assert (question.method, question.wrong_gateway_token) == ("token", False)


class TestWithoutDevice:
    @pytest.mark.parametrize(
        "token",
        [
            TOKEN[:-1],
            TOKEN + "0",
            TOKEN.upper(),
            f" {TOKEN}",
            f"{TOKEN},gateway-token-of-32-characters-99",
            "é" * 32,
            "x" * 60_000,
            "\x00",
        ],
        ids=["cut", "longer", "upper case", "space", "both of the list", "no ASCII", "long", "NUL"],
    )
    @pytest.mark.parametrize("field", ["token", "password"])
    def test_with_a_wrong_token_the_client_is_refused(self, token: str, field: str) -> None:
        frame = alter(connect(key=None), lambda p: p.update(auth={field: token}))
        assert detail_code(refusal_of_wrong_secret(frame)) == "AUTH_TOKEN_MISMATCH"

    @pytest.mark.parametrize("auth", [{}, {"token": ""}, {"password": ""}, {"deviceToken": "d"}])
    def test_without_a_token_the_client_is_refused(self, auth: dict[str, str]) -> None:
        frame = alter(connect(key=None), lambda p: p.update(auth=auth))
        assert detail_code(refusal_of(frame)) == "DEVICE_IDENTITY_REQUIRED"

    @pytest.mark.parametrize("peer", [REMOTE, LOCAL, BROWSER], ids=["remote", "local", "page"])
    @pytest.mark.parametrize("client_id", ["cli", "gateway-client", "openclaw-probe", "test"])
    @pytest.mark.parametrize("mode", ["cli", "ui", "backend", "probe", "test"])
    def test_the_right_token_alone_grants_no_scope(
        self, peer: RequestInfo, client_id: str, mode: str
    ) -> None:
        profile = replace(CLI, client_id=client_id, mode=mode).with_scopes("operator.admin")
        assert acceptance_of(connect(profile, key=None), peer).grant.scopes == ()

    def test_the_right_token_alone_grants_no_node_role(self) -> None:
        refusal = after_report(connect(NODE_HOST, key=None), right=True)
        assert isinstance(refusal, Refusal)
        assert detail_code(refusal) == "DEVICE_IDENTITY_REQUIRED"


class StillClock:
    def monotonic(self) -> float:
        return 0.0

    def wall_ns(self) -> int:
        return NOW_MS * 1_000_000


class TestTwice:
    def test_a_second_connect_after_hello_is_an_error(self) -> None:
        session = Session("boot:7", 4, "operator", ["operator.read"], KEY.device_id, "token")
        second = connect(CLI.with_scopes("operator.admin"), key=OTHER_KEY)
        turn = Dispatcher(StillClock()).on_frame(session, to_bytes(second))
        assert turn.close is None
        assert turn.frame is not None
        assert b'"connect is only valid as the first request"' in turn.frame
        assert session == Session(
            "boot:7", 4, "operator", ["operator.read"], KEY.device_id, "token"
        )
