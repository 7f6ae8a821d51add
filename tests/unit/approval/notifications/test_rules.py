"""Addresses, signatures and retries of webhooks."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from services.approval.notifications.addresses import is_public
from services.approval.notifications.retry import DAY_MS, RetryPolicy
from services.approval.notifications.signing import SigningKeys, read_key

PRIVATE = (
    "0.0.0.0",  # noqa: S104 (not listened on)
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1",
    "169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::7f00:1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::1", "2002:a9fe:a9fe::1",
    "2001:0:a00:1::1", "2001:db8::1", "fec0::1", "", "localhost", "127.1", "0x7f000001", "1",
)  # fmt: skip
PUBLIC = (
    "8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8",
    "64:ff9b::808:808", "2002:808:808::1",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


def test_an_independent_library_verifies_each_signature() -> None:
    old, new = b"o" * 32, b"n" * 32
    body = b'{"type":"device.waiting"}'
    now = int(datetime.now(UTC).timestamp())
    headers = SigningKeys((old, new)).headers("msg_1", now, body)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for key in (old, new):
        secret = "whsec_" + base64.b64encode(key).decode()
        assert read_key(secret) == key
        assert Webhook(secret).verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(b"x" * 32).decode()).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(old).decode()).verify(body + b" ", headers)


def test_without_keys_there_is_no_signature() -> None:
    assert set(SigningKeys().headers("msg_1", 1, b"")) == {"webhook-id", "webhook-timestamp"}


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers(0, 10**9))
def test_delays_have_bounds(attempts: int, chance: float, asked_ms: int) -> None:
    policy = RetryPolicy()
    delay = policy.delay_ms(attempts, chance, asked_ms)
    assert policy.first_ms // 2 <= delay <= policy.most_ms
    assert delay >= min(asked_ms, policy.most_ms)


def test_delays_double() -> None:
    policy = RetryPolicy(first_ms=10, most_ms=100)
    assert [policy.delay_ms(n, 1.0) for n in range(1, 7)] == [10, 20, 40, 80, 100, 100]
    assert [policy.delay_ms(n, 0.0) for n in range(1, 4)] == [5, 10, 20]


def test_when_it_is_given_up() -> None:
    policy = RetryPolicy()
    assert not policy.gives_up(age_ms=3 * DAY_MS - 1, attempts=999, status=500)
    assert policy.gives_up(age_ms=3 * DAY_MS, attempts=1, status=500)
    assert not policy.gives_up(age_ms=0, attempts=4, status=400)
    assert policy.gives_up(age_ms=0, attempts=5, status=400)
    assert not policy.gives_up(age_ms=0, attempts=5, status=404)
