from __future__ import annotations

import pytest

from shared.device.identity import DeviceKey
from shared.protocol.signing import decode_public_key, device_id_of
from tests.support.wire import VECTORS


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda v: v["seedHex"][:8])
def test_a_seed_makes_the_recorded_key(vector: dict[str, str]) -> None:
    key = DeviceKey.from_seed(bytes.fromhex(vector["seedHex"]))
    assert key.device_id == vector["deviceId"]
    assert key.public_key == vector["publicKeyBase64Url"]


def test_generated_keys_differ() -> None:
    assert DeviceKey.generate().device_id != DeviceKey.generate().device_id


def test_id_and_public_key_belong_together() -> None:
    key = DeviceKey.generate()
    raw = decode_public_key(key.public_key)
    assert raw is not None
    assert device_id_of(raw) == key.device_id


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DeviceKey.from_seed(bytes(length))


def test_the_seed_never_prints() -> None:
    key = DeviceKey.from_seed(b"s" * 32)
    assert repr(key) == f"DeviceKey({key.device_id})"
