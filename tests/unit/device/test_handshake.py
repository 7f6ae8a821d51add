"""The client's pure part: what it sends, and how it interprets the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from shared.device.errors import BrokenPeerError
from shared.device.handshake import (
    Admitted,
    Challenge,
    Close,
    Credentials,
    Event,
    Refused,
    Response,
    connect_request,
    encode,
    read_challenge,
    read_frame,
    read_outcome,
    replica_of,
    request,
)
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CONTROL_UI, CONTROL_UI_3, PROFILES, Profile
from shared.protocol import schema
from shared.protocol.connect import decode_connect
from shared.protocol.signing import decode_public_key, signature_holds
from tests.support.stubs.gateway import hello
from tests.support.wire import ATTEMPTS, VECTORS

KEY = DeviceKey.from_seed(b"\x11" * 32)
CHALLENGE = Challenge("619d49e9-6fc6-48c8-8273-91ccbf4f7259", 1795328509349)

each_profile = pytest.mark.parametrize(
    "profile", PROFILES.values(), ids=[f"{name}-{protocol}" for name, protocol in PROFILES]
)


def holds(frame: dict[str, Any]) -> bool:
    """Return whether a gateway would accept this connect's signature."""
    typed = decode_connect(msgspec.json.encode(frame))
    assert typed is not None
    params = typed.params
    assert params.device
    raw = decode_public_key(params.device.public_key)
    assert raw is not None
    role = params.role or "operator"
    return signature_holds(params, params.device, role, params.scopes or [], raw)


class TestConnect:
    @pytest.mark.parametrize(
        "attempt", [a for a in ATTEMPTS if "operator" in a.name and "refclient" in a.name], ids=str
    )
    def test_connect_is_the_recorded_frame_including_the_signature(self, attempt: Any) -> None:
        params = attempt.connect["params"]
        key = DeviceKey.from_seed(bytes.fromhex(VECTORS["keys"][3]["seedHex"]))
        profile = Profile(
            client_id="cli",
            mode="cli",
            version="9.9.9",
            display_name="Ref Operator",
            platform="  LINUX ",
            device_family="Server",
            scopes=("operator.read", "operator.write", "operator.pairing"),
        )
        credentials = Credentials(token=params["auth"]["token"])
        ours = connect_request(
            Challenge(attempt.nonce, attempt.ts), key, profile, credentials, attempt.connect["id"]
        )
        assert ours == attempt.connect

    @each_profile
    def test_connect_of_each_ready_made_client_is_valid(self, profile: Profile) -> None:
        frame = connect_request(CHALLENGE, KEY, profile, Credentials(token="t"))
        assert schema.request_problem(frame) is None
        assert schema.params_problems(frame["params"], schema.CONNECT_PARAMS) == []
        assert holds(frame)

    @pytest.mark.parametrize("client", ["cli", "control-ui", "node-host", "reference"])
    def test_each_client_has_cases_in_both_protocols(self, client: str) -> None:
        for protocol in (3, 4):
            profile = PROFILES[client, protocol]
            assert (profile.min_protocol, profile.max_protocol) == (protocol, protocol)

    def test_looks_like_the_recorded_dashboard(self) -> None:
        recorded = next(a for a in ATTEMPTS if "controlui" in a.name).connect["params"]
        ours = connect_request(CHALLENGE, KEY, CONTROL_UI)["params"]
        for name in ("minProtocol", "maxProtocol", "role", "scopes", "locale"):
            assert ours[name] == recorded[name]
        for name in ("id", "version", "platform", "mode"):
            assert ours["client"][name] == recorded["client"][name]
        assert "deviceFamily" not in ours["client"]
        assert "auth" not in ours
        assert "auth" not in recorded

    def test_protocol_3_dashboard_asks_for_the_recorded_scopes(self) -> None:
        recorded = [v for v in VECTORS["payloads"] if v["clientId"] == "openclaw-control-ui"][1]
        assert list(CONTROL_UI_3.scopes or ()) == recorded["scopes"]

    @pytest.mark.parametrize(("version", "both"), [(2, False), (3, True)])
    def test_version_3_covers_the_platform_and_version_2_does_not(
        self, version: Any, *, both: bool
    ) -> None:
        frame = connect_request(CHALLENGE, KEY, replace(CLI, signature_version=version))
        frame["params"]["client"]["platform"] = "other"
        assert holds(frame) is not both

    @pytest.mark.parametrize(
        ("credentials", "auth"),
        [
            (Credentials(token="t"), {"token": "t"}),
            (Credentials(token=""), {"token": ""}),
            (Credentials(device_token="d"), {"deviceToken": "d"}),
            (Credentials(token="d", device_token="d"), {"token": "d", "deviceToken": "d"}),
            (Credentials(token="t", password="t"), {"token": "t", "password": "t"}),
            (Credentials(bootstrap_token="b"), {"bootstrapToken": "b"}),
        ],
    )
    def test_secrets_are_in_their_fields_and_signed(
        self, credentials: Credentials, auth: dict[str, str]
    ) -> None:
        frame = connect_request(CHALLENGE, KEY, CLI, credentials)
        assert frame["params"]["auth"] == auth
        assert holds(frame)

    def test_without_a_key_there_is_no_device(self) -> None:
        frame = connect_request(CHALLENGE, None, CLI, Credentials(token="t"))
        assert "device" not in frame["params"]

    def test_none_leaves_a_field_out(self) -> None:
        frame = connect_request(CHALLENGE, KEY, replace(CLI, role=None, scopes=None, caps=None))
        assert not {"role", "scopes", "caps"} & set(frame["params"])
        assert holds(frame)

    def test_each_has_an_id_of_its_own(self) -> None:
        assert request("m")["id"] != request("m")["id"]

    def test_secrets_never_print(self) -> None:
        credentials = Credentials(token="hush", device_token="hush", password="hush")
        assert "hush" not in repr(credentials)


class TestFrames:
    def test_an_event_is_read(self) -> None:
        assert read_frame('{"type":"event","event":"tick","payload":{"ts":1},"seq":2}') == Event(
            "tick", {"ts": 1}, 2
        )

    def test_responses_are_read(self) -> None:
        assert read_frame('{"type":"res","id":"1","ok":true,"payload":[]}') == Response(
            "1", True, []
        )
        assert read_frame('{"type":"res","id":"1","ok":false,"error":{"code":"X"}}') == Response(
            "1", False, None, {"code": "X"}
        )

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            "null",
            '{"type":"event"}',
            '{"type":"res","id":"1"}',
            '{"type":"res","id":"1","ok":false}',
            '{"type":"res","id":1,"ok":true}',
            '{"type":"req","id":"1","method":"m"}',
            "[" * 100_000,
            b"\xff",
        ],
        ids=lambda text: repr(text[:20]),
    )
    def test_what_no_gateway_sends_is_an_error(self, text: str | bytes) -> None:
        with pytest.raises(BrokenPeerError):
            read_frame(text)

    def test_frames_are_encoded_as_json(self) -> None:
        assert json.loads(encode({"a": ["é"]})) == {"a": ["é"]}


class TestChallenge:
    def test_a_challenge_is_read(self) -> None:
        event = Event("connect.challenge", {"nonce": "n", "ts": 5, "capabilities": []})
        assert read_challenge(event) == Challenge("n", 5)

    @pytest.mark.parametrize(
        "frame",
        [
            Event("tick", {"nonce": "n", "ts": 5}),
            Event("connect.challenge", None),
            Event("connect.challenge", {"nonce": "n"}),
            Event("connect.challenge", {"nonce": "n", "ts": -1}),
            Event("connect.challenge", {"nonce": "n", "ts": True}),
            Event("connect.challenge", {"nonce": "n", "ts": "5"}),
            Event("connect.challenge", {"nonce": " ", "ts": 5}),
            Event("connect.challenge", {"ts": 5}),
            Response("1", True),
        ],
    )
    def test_another_event_is_no_challenge(self, frame: Event | Response) -> None:
        with pytest.raises(BrokenPeerError):
            read_challenge(frame)


class TestOutcome:
    def test_hello_ok_is_an_admission(self) -> None:
        params = {"maxProtocol": 4, "scopes": ["operator.read"]}
        payload = hello(params, deviceToken="d", issuedAtMs=7)
        assert read_outcome(Response("1", True, payload)) == Admitted(
            hello=payload,
            connection_id="boot:7",
            protocol=4,
            role="operator",
            scopes=("operator.read",),
            device_token="d",
            issued_at_ms=7,
        )

    def test_a_protocol_3_admission_without_a_device_is_read(self) -> None:
        payload = hello({"maxProtocol": 3})
        del payload["auth"]
        outcome = read_outcome(Response("1", True, payload))
        assert isinstance(outcome, Admitted)
        assert (outcome.role, outcome.scopes, outcome.device_token) == ("", (), "")

    def test_the_replica_is_the_part_before_the_colon(self) -> None:
        assert replica_of("5f0c:12") == "5f0c"
        assert replica_of("an-original-uuid") == "an-original-uuid"

    @pytest.mark.parametrize(
        "attempt", [a for a in ATTEMPTS if a.answer["error"]["code"] == "NOT_PAIRED"], ids=str
    )
    def test_recorded_refusals_are_read(self, attempt: Any) -> None:
        outcome = read_outcome(Response("1", False, error=attempt.answer["error"]))
        assert isinstance(outcome, Refused)
        assert outcome.code == "NOT_PAIRED"
        assert outcome.detail_code == "PAIRING_REQUIRED"
        assert outcome.request_id in attempt.close_reason
        assert outcome.message.startswith("pairing required")
        assert (outcome.connection_id, outcome.retry_after_ms, outcome.close) == ("", None, None)

    @pytest.mark.parametrize(
        "error",
        [None, {}, {"details": None}, {"details": []}, {"code": 5, "details": {"requestId": 5}}],
    )
    def test_a_refusal_of_any_shape_has_empty_parts(self, error: Any) -> None:
        outcome = Refused(error, Close(1008, "no"))
        assert (outcome.code, outcome.message, outcome.request_id) == ("", "", "")
        assert outcome.details.get("code") is None

    @pytest.mark.parametrize(
        "payload",
        [None, {}, {"type": "hello-ok"}, {"type": "hello-ok", "protocol": 4, "server": {}}],
    )
    def test_a_yes_that_is_no_hello(self, payload: Any) -> None:
        with pytest.raises(BrokenPeerError):
            read_outcome(Response("1", True, payload))
