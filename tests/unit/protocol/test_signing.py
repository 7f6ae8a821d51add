"""Keys, payloads and signatures match those computed by the original."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from shared.device.identity import DeviceKey
from shared.protocol.connect import Auth, Client, ConnectParams, Device
from shared.protocol.signing import (
    SIGNATURE_BYTES,
    decode_base64,
    decode_public_key,
    device_id_of,
    encode_base64,
    normalised_metadata,
    payload_v2,
    payload_v3,
    signature_holds,
    signed_token,
    trimmed,
)
from tests.support.wire import VECTORS

PAYLOADS: list[Any] = VECTORS["payloads"]
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def labelled(rows: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(row, id=row["label"]) for row in rows]


def params_of(vector: dict[str, Any], signature: str) -> tuple[ConnectParams, Device]:
    client = Client(
        id=vector["clientId"],
        version="1",
        platform=vector["platform"],
        mode=vector["clientMode"],
        device_family=msgspec.UNSET if vector["deviceFamily"] is None else vector["deviceFamily"],
    )
    device = Device(
        vector["deviceId"], vector["publicKey"], signature, vector["signedAtMs"], vector["nonce"]
    )
    auth = msgspec.UNSET if vector["token"] is None else Auth(token=vector["token"])
    return ConnectParams(4, 4, client, device=device, auth=auth), device


class TestKeys:
    @pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda v: v["seedHex"][:8])
    def test_recorded_keys_are_read_in_all_forms(self, vector: dict[str, str]) -> None:
        raw = bytes.fromhex(vector["publicKeyRawHex"])

        assert device_id_of(raw) == vector["deviceId"]
        assert encode_base64(raw) == vector["publicKeyBase64Url"]
        assert decode_public_key(vector["publicKeyBase64Url"]) == raw
        assert decode_public_key(vector["publicKeyPem"]) == raw

    @pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda v: v["seedHex"][:8])
    def test_a_private_key_is_no_public_key(self, vector: dict[str, str]) -> None:
        assert decode_public_key(vector["privateKeyPem"]) is None

    @pytest.mark.parametrize("row", labelled(VECTORS["publicKeyAcceptance"]))
    def test_encodings_of_keys_are_accepted_as_recorded(self, row: dict[str, Any]) -> None:
        """Every encoding that the original verifies is accepted, except 33-byte keys."""
        raw = decode_public_key(row["value"])
        zero = row["label"].startswith("all zero")
        if (row["signatureVerifies"] and row["label"] != "33 bytes") or zero:
            assert raw is not None
            assert device_id_of(raw) == row["derivedDeviceId"]
            assert encode_base64(raw) == row["canonicalPublicKey"]
        else:
            assert raw is None

    @pytest.mark.parametrize(
        "text",
        ["\n{pem}", "  {pem}", "text before\n{pem}", "{pem}\n\n"],
        ids=["newline", "indented", "text", "trailing"],
    )
    def test_pem_with_text_around_it_is_read(self, text: str) -> None:
        key = VECTORS["keys"][0]
        pem = text.format(pem=key["publicKeyPem"]).replace("text before\n", "\n")
        assert decode_public_key(pem) == bytes.fromhex(key["publicKeyRawHex"])

    def test_pem_with_windows_line_ends_is_read(self) -> None:
        key = VECTORS["keys"][0]
        pem = key["publicKeyPem"].replace("\n", "\r\n")
        assert decode_public_key(pem) == bytes.fromhex(key["publicKeyRawHex"])

    def test_base64_that_happens_to_spell_begin_is_no_pem(self) -> None:
        raw = decode_base64("BEGIN" + "A" * 38)
        assert raw is not None
        assert decode_public_key("BEGIN" + "A" * 38) == raw

    @pytest.mark.parametrize(
        "pem",
        [
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "-----BEGIN-----",
        ],
    )
    def test_broken_pem_is_no_key(self, pem: str) -> None:
        assert decode_public_key(pem) is None

    @given(st.binary(max_size=100))
    def test_base64_decodes_what_it_encodes(self, data: bytes) -> None:
        encoded = encode_base64(data)
        assert not set(encoded) & set("+/=")
        assert decode_base64(encoded) == data

    @given(st.text())
    def test_any_text_is_a_key_or_none(self, text: str) -> None:
        raw = decode_public_key(text)
        assert raw is None or len(raw) == 32


class TestPayloads:
    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize("vector", PAYLOADS, ids=lambda v: f"{v['clientId']}-{v['nonce'][:3]}")
    def test_payloads_are_constructed_as_recorded(
        self, vector: dict[str, Any], version: int
    ) -> None:
        params, device = params_of(vector, "-")
        build = payload_v2 if version == 2 else payload_v3
        token = vector["token"] or ""
        text = build(device, params.client, vector["role"], vector["scopes"], token)
        assert text == vector[f"v{version}"]["payload"]

    @given(st.tuples(*[st.text(min_size=1)] * 5), st.lists(st.text(), max_size=3), st.integers(0))
    def test_version_3_is_version_2_with_platform_and_family(
        self, texts: tuple[str, ...], scopes: list[str], signed_at: int
    ) -> None:
        device_id, nonce, token, platform, family = texts
        device = Device(device_id, "key", "signature", signed_at, nonce)
        client = Client(id="cli", version="1", platform=platform, mode="node", device_family=family)
        two = payload_v2(device, client, "node", scopes, token)
        ends = f"|{normalised_metadata(platform)}|{normalised_metadata(family)}"
        assert payload_v3(device, client, "node", scopes, token) == f"v3{two[2:]}{ends}"

    @pytest.mark.parametrize("version", ["v2", "v3"])
    @pytest.mark.parametrize("vector", PAYLOADS, ids=lambda v: f"{v['clientId']}-{v['nonce'][:3]}")
    def test_payloads_are_signed_as_recorded(self, vector: dict[str, Any], version: str) -> None:
        key = DeviceKey.from_seed(bytes.fromhex(vector["seed"]))
        assert key.sign(vector[version]["payload"]) == vector[version]["signature"]

    @pytest.mark.parametrize("version", ["v2", "v3"])
    @pytest.mark.parametrize("vector", PAYLOADS, ids=lambda v: f"{v['clientId']}-{v['nonce'][:3]}")
    def test_recorded_signature_holds(self, vector: dict[str, Any], version: str) -> None:
        params, device = params_of(vector, vector[version]["signature"])
        raw = decode_public_key(vector["publicKey"])
        assert raw is not None
        assert signature_holds(params, device, vector["role"], vector["scopes"], raw)

    @pytest.mark.parametrize(
        ("auth", "signed"),
        [
            ({"token": "t", "deviceToken": "d", "bootstrapToken": "b"}, "t"),
            ({"token": "", "deviceToken": "d"}, ""),
            ({"deviceToken": "d", "bootstrapToken": "b"}, "d"),
            ({"bootstrapToken": "b"}, "b"),
            ({"password": "p"}, ""),
            ({}, ""),
        ],
    )
    def test_first_present_token_is_signed(self, auth: dict[str, str], signed: str) -> None:
        assert signed_token(msgspec.convert(auth, Auth)) == signed


class TestNormalisation:
    @pytest.mark.parametrize(
        "row", VECTORS["metadataNormalisation"], ids=lambda r: repr(r["input"])
    )
    def test_metadata_is_normalised_as_recorded(self, row: dict[str, Any]) -> None:
        given = None if row["input"] in {None, "<undefined>"} else row["input"]
        assert normalised_metadata(given) == row["output"]

    @pytest.mark.parametrize("space", ["\ufeff", "\u00a0", "\u3000", "\u2028", "\v"])
    def test_white_space_of_the_clients_is_trimmed(self, space: str) -> None:
        assert trimmed(f"{space}x{space}") == "x"

    @pytest.mark.parametrize("other", ["\x1c", "\x1f", "\x85", "\u200b"])
    def test_what_they_keep_is_kept(self, other: str) -> None:
        assert trimmed(f"{other}x") == f"{other}x"


class TestSignatures:
    @pytest.mark.parametrize("row", labelled(VECTORS["signatureEncodings"]))
    def test_encodings_of_signatures_are_accepted_as_recorded(self, row: dict[str, Any]) -> None:
        signature = decode_base64(row["value"])
        raw = decode_public_key(row["publicKey"])
        assert raw is not None
        if row["verifies"]:
            assert signature is not None
            assert crypto_sign_open(signature + row["message"].encode(), raw) == b"x"
        else:
            assert signature is None or len(signature) != SIGNATURE_BYTES

    @pytest.mark.parametrize("signature", ["", "AAAA", "!!!", "é" * 86, "A" * 86])
    def test_garbage_does_not_hold(self, signature: str) -> None:
        assert not holds(PAYLOADS[0], signature)

    def test_every_flipped_bit_breaks_it(self) -> None:
        sound = decode_base64(PAYLOADS[0]["v3"]["signature"])
        assert sound is not None
        for bit in range(SIGNATURE_BYTES * 8):
            broken = bytearray(sound)
            broken[bit // 8] ^= 1 << bit % 8
            assert not holds(PAYLOADS[0], encode_base64(bytes(broken)))

    def test_a_malleable_signature_is_refused(self) -> None:
        """A careless verifier treats S and S plus the group's order as equal."""
        sound = decode_base64(PAYLOADS[0]["v3"]["signature"])
        assert sound is not None
        scalar = int.from_bytes(sound[32:], "little") + GROUP_ORDER
        twin = sound[:32] + scalar.to_bytes(32, "little")
        assert not holds(PAYLOADS[0], encode_base64(twin))

    @pytest.mark.parametrize(
        "point",
        [
            "00" * 32,
            "01" + "00" * 31,
            "ec" + "ff" * 30 + "7f",
            "ed" + "ff" * 30 + "7f",
            "ee" + "ff" * 30 + "7f",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ],
    )
    def test_a_low_order_key_is_refused(self, point: str) -> None:
        """With such a key one signature fits every message."""
        raw = bytes.fromhex(point)
        for signature in (bytes(64), raw + bytes(32), b"\x01" + bytes(63)):
            with pytest.raises(BadSignatureError):
                crypto_sign_open(signature + b"any message", raw)
            params, device = params_of(PAYLOADS[0], encode_base64(signature))
            assert not signature_holds(params, device, "operator", [], raw)


def holds(vector: dict[str, Any], signature: str) -> bool:
    params, device = params_of(vector, signature)
    raw = decode_public_key(vector["publicKey"])
    assert raw is not None
    return signature_holds(params, device, vector["role"], vector["scopes"], raw)
