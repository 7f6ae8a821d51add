from __future__ import annotations

import msgspec
import pytest

from shared.device.handshake import Challenge, Credentials, connect_request
from shared.device.identity import DeviceKey
from shared.protocol.connect import ConnectParams
from shared.protocol.signing import decode_public_key, signature_holds
from tools.load.devices import PROFILE, REQUEST_ID, Identity, LoadDevice

SEED = b"\x31" * 32
TOKEN = "gateway-token-of-32-characters-00"
NONCE = "619d49e9-6fc6-48c8-8273-91ccbf4f7259"
NOW_MS = 1_795_328_509_349


def payload_of(frame: bytes) -> bytes:
    assert frame[1] & 0x7F == 126
    return frame[8:]


@pytest.mark.parametrize(
    ("device_token", "credentials"),
    [
        ("", Credentials(token=TOKEN)),
        ("its-own", Credentials(device_token="its-own")),
    ],
)
class TestConnect:
    def test_is_what_the_device_client_sends(
        self, device_token: str, credentials: Credentials
    ) -> None:
        device = LoadDevice(Identity(SEED, device_token), TOKEN, 0)
        sent = msgspec.json.decode(payload_of(device.connect(NONCE, NOW_MS)))
        key = DeviceKey(SEED)
        assert sent == connect_request(
            Challenge(NONCE, NOW_MS), key, PROFILE, credentials, REQUEST_ID
        )

    def test_is_signed_for_each_challenge(
        self, device_token: str, credentials: Credentials
    ) -> None:
        device = LoadDevice(Identity(SEED, device_token), TOKEN, 0)
        for nonce, now_ms in ((NONCE, NOW_MS), ("another", 7)):
            sent = msgspec.json.decode(device.connect(nonce, now_ms)[8:])
            params = msgspec.convert(sent["params"], ConnectParams)
            assert params.device
            assert (params.device.nonce, params.device.signed_at) == (nonce, now_ms)
            key = decode_public_key(params.device.public_key)
            assert key
            assert signature_holds(params, params.device, "node", [], key)


def test_secrets_do_not_print() -> None:
    shown = repr(Identity(SEED, "its-own"))
    assert "its-own" not in shown
    assert "1111" not in shown
