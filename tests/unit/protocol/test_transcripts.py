"""Every recorded connect is read and verified, and our refusals equal the recorded ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from nacl.bindings import crypto_sign_open

from shared.protocol import events, refusals, schema
from shared.protocol.closing import CloseCode, cut_reason
from shared.protocol.connect import BROWSER_CLIENT_IDS, connect_from, decode_connect
from shared.protocol.frames import failure
from shared.protocol.refusals import PairingNeeded, Refusal
from shared.protocol.signing import (
    decode_base64,
    decode_public_key,
    device_id_of,
    payload_v2,
    payload_v3,
    signature_holds,
    signed_token,
)
from tests.support.wire import ATTEMPTS, Attempt, transcript

each_attempt = pytest.mark.parametrize("attempt", ATTEMPTS, ids=str)


def refusal_for(attempt: Attempt) -> Refusal:
    """Return our answer where the original answered this."""
    params = attempt.connect["params"]
    details = attempt.answer["error"]["details"]
    client = params["client"]
    if details["code"] == "PAIRING_REQUIRED":
        needed = PairingNeeded(
            reason=details["reason"],
            request_id=details["requestId"],
            device_id=params["device"]["id"],
            role=params["role"],
            scopes=params["scopes"],
            approved_roles=None,
            approved_scopes=None,
            waits_itself=client["id"] in BROWSER_CLIENT_IDS,
        )
        return refusals.pairing_required(needed, 4)
    missing = details["code"] == "AUTH_TOKEN_MISSING"
    hint = refusals.token_hint(client["id"], client["mode"], missing=missing, local=True)
    if missing:
        return refusals.token_missing(hint)
    return refusals.token_mismatch(hint, with_device=True)


def test_all_attempts_were_found() -> None:
    assert [str(attempt) for attempt in ATTEMPTS] == [
        "a-cli-unpaired-device:5",
        "a-cli-unpaired-device:6",
        "a-cli-unpaired-device:7",
        "e1-refclient-operator-unpaired:64",
        "e4-refclient-operator-wrong-token:68",
        "e5-refclient-node-unpaired:69",
        "f1-controlui-no-token:55",
    ]


class TestConnect:
    @each_attempt
    def test_recorded_connects_are_read(self, attempt: Attempt) -> None:
        frame = decode_connect(msgspec.json.encode(attempt.connect))

        assert frame is not None
        assert schema.request_problem(attempt.connect) is None
        assert schema.params_problems(attempt.connect["params"], schema.CONNECT_PARAMS) == []
        assert frame == connect_from(attempt.connect)
        known: dict[str, Any] = msgspec.to_builtins(frame)
        known["params"].update(
            {
                name: attempt.connect["params"][name]
                for name in ("modelCatalog",)
                if name in attempt.connect["params"]
            }
        )
        assert known == attempt.connect

    @each_attempt
    def test_recorded_connects_are_verified(self, attempt: Attempt) -> None:
        frame = decode_connect(msgspec.json.encode(attempt.connect))
        assert frame is not None
        params = frame.params
        assert params.device
        raw = decode_public_key(params.device.public_key)
        assert raw is not None
        assert device_id_of(raw) == params.device.id
        assert params.device.nonce == attempt.nonce
        assert params.device.signed_at == attempt.ts
        assert signature_holds(params, params.device, params.role or "", params.scopes or [], raw)

    @each_attempt
    def test_dashboards_sign_version_2_and_all_others_3(self, attempt: Attempt) -> None:
        frame = decode_connect(msgspec.json.encode(attempt.connect))
        assert frame is not None
        params = frame.params
        assert params.device
        build = payload_v2 if params.client.id in BROWSER_CLIENT_IDS else payload_v3
        token = signed_token(params.auth) if params.auth else ""
        text = build(params.device, params.client, params.role or "", params.scopes or [], token)
        signature = decode_base64(params.device.signature)
        raw = decode_public_key(params.device.public_key)
        assert signature
        assert raw
        assert crypto_sign_open(signature + text.encode(), raw) == text.encode()


class TestRefusals:
    @each_attempt
    def test_frame_is_the_recorded_one(self, attempt: Attempt) -> None:
        refusal = refusal_for(attempt)
        assert refusal.error is not None
        ours = msgspec.json.decode(failure(attempt.connect["id"], refusal.error))
        assert ours == attempt.answer
        assert list(ours["error"]["details"]) == list(attempt.answer["error"]["details"])

    @each_attempt
    def test_close_is_the_recorded_one(self, attempt: Attempt) -> None:
        refusal = refusal_for(attempt)
        assert refusal.close_code == attempt.close_code
        assert cut_reason(refusal.close_reason) == attempt.close_reason


class TestEvents:
    def test_challenge_is_the_recorded_one_without_capabilities(self) -> None:
        recorded = next(
            line["frame"] for line in transcript("a-cli-unpaired-device") if line["kind"] == "frame"
        )
        payload = recorded["payload"]
        del payload["capabilities"]
        assert msgspec.json.decode(events.challenge(payload["nonce"], payload["ts"])) == recorded

    def test_broadcasts_are_the_recorded_ones(self) -> None:
        lines = [line for line in transcript("events-operator-pairing") if "event" in line]
        assert len(lines) == 8
        for line in lines:
            del line["t"]
            logged = events.Broadcast(line["event"], msgspec.json.encode(line["payload"]))
            ours = events.numbered(logged.head(), line["seq"])
            assert msgspec.json.decode(ours) == line

    def test_tick_is_the_recorded_one(self) -> None:
        tick = next(
            line for line in transcript("events-operator-pairing") if line.get("event") == "tick"
        )
        del tick["t"]
        ours = events.numbered(events.tick(tick["payload"]["ts"]).head(), tick["seq"])
        assert msgspec.json.decode(ours) == tick

    def test_restart_closes_with_the_recorded_code(self) -> None:
        last = transcript("events-operator-pairing")[-1]
        assert last["close"] == CloseCode.RESTART
