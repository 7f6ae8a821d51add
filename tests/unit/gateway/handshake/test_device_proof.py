"""Refusals for a device with a wrong id, key, time, nonce or signature."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol.limits import PUBLIC_KEY_LIMIT_CHARACTERS
from shared.protocol.signing import _known
from shared.rpc.messages import Denied
from tests.support.attempts import (
    KEY,
    NOW_MS,
    OTHER_KEY,
    alter,
    client_view,
    connect,
    question_of,
    refusal_after,
    refusal_of,
)
from tests.unit.gateway.handshake.refusal_rows import NOW, row


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
    def test_an_id_that_is_not_the_hash_of_the_key_is_refused(self, change: dict[str, str]) -> None:
        frame = alter(connect(), lambda params: params["device"].update(change))
        assert client_view(refusal_of(frame)) == ID_MISMATCH

    def test_a_text_that_is_too_long_for_a_key_is_not_read(self) -> None:
        longest = KEY.public_key + " " * (PUBLIC_KEY_LIMIT_CHARACTERS - len(KEY.public_key))
        frame = alter(connect(), lambda params: params["device"].update(publicKey=longest))
        assert question_of(frame).public_key == KEY.public_key
        known = _known.cache_info().currsize
        frame = alter(connect(), lambda params: params["device"].update(publicKey=longest + " "))
        assert client_view(refusal_of(frame)) == ID_MISMATCH
        assert _known.cache_info().currsize == known

    def test_another_key_than_the_paired_one_is_refused(self) -> None:
        assert client_view(refusal_after(connect(), Denied(NOW, "key-mismatch"))) == ID_MISMATCH

    @pytest.mark.parametrize("skew_ms", [-120_001, 120_001, 10**9])
    def test_a_signature_from_another_time_is_refused(self, skew_ms: int) -> None:
        assert client_view(refusal_of(connect(), now_ms=NOW_MS + skew_ms)) == device_row(
            "device signature expired", "DEVICE_AUTH_SIGNATURE_EXPIRED", "device-signature-stale"
        )

    @pytest.mark.parametrize("skew_ms", [-120_000, 0, 120_000])
    def test_a_clock_may_be_wrong_by_two_minutes(self, skew_ms: int) -> None:
        assert question_of(connect(), now_ms=NOW_MS + skew_ms).device_id == KEY.device_id

    @pytest.mark.parametrize("nonce", [" ", "\t\n", "\u00a0"])
    def test_a_blank_nonce_is_refused(self, nonce: str) -> None:
        frame = alter(connect(), lambda params: params["device"].update(nonce=nonce))
        assert client_view(refusal_of(frame)) == device_row(
            "device nonce required", "DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing"
        )

    def test_another_nonce_is_refused(self) -> None:
        frame = alter(connect(), lambda params: params["device"].update(nonce="other"))
        assert client_view(refusal_of(frame)) == device_row(
            "device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch"
        )

    @pytest.mark.parametrize("signature", ["garbage", "A" * 86, "!", "AAAA", "é"])
    def test_a_wrong_signature_is_refused(self, signature: str) -> None:
        frame = alter(connect(), lambda params: params["device"].update(signature=signature))
        assert client_view(refusal_of(frame)) == device_row(
            "device signature invalid", "DEVICE_AUTH_SIGNATURE_INVALID", "device-signature"
        )
