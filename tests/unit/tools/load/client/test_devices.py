"""The load tool's devices are real ones: they send what the project's own client sends."""

from __future__ import annotations

import msgspec
import pytest

from shared.device.handshake import Challenge, Credentials, connect_request
from shared.device.identity import DeviceKey
from tools.load.client.devices import PROFILE, REQUEST_ID, Identity, LoadDevice

SEED = b"\x31" * 32
TOKEN = "gateway-token-of-32-characters-00"


@pytest.mark.parametrize(
    ("device_token", "credentials"),
    [
        ("", Credentials(token=TOKEN)),
        ("its-own", Credentials(device_token="its-own")),
    ],
)
def test_it_signs_and_sends_what_the_device_client_does(
    device_token: str, credentials: Credentials
) -> None:
    device = LoadDevice(Identity(SEED, device_token), TOKEN, 0)
    for challenge in (Challenge("619d49e9", 1_795_328_509_349), Challenge("another", 7)):
        frame = device.connect(challenge.nonce, challenge.ts)
        assert frame[1] & 0x7F == 126, "a length of two bytes"
        assert msgspec.json.decode(frame[8:]) == connect_request(
            challenge, DeviceKey(SEED), PROFILE, credentials, REQUEST_ID
        )


def test_secrets_are_not_printed() -> None:
    shown = repr(Identity(SEED, "its-own"))
    assert "its-own" not in shown
    assert "1111" not in shown
