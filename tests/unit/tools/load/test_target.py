from __future__ import annotations

import pytest

from tools.load.target import BadTarget, is_loopback, read_target


@pytest.mark.parametrize(
    ("url", "netloc", "path"),
    [
        ("ws://127.0.0.1:18789", "127.0.0.1:18789", "/"),
        ("wss://gateway.example/ws?a=1", "gateway.example", "/ws?a=1"),
        ("wss://gateway.example:8443", "gateway.example:8443", "/"),
        ("ws://[::1]:9", "[::1]:9", "/"),
    ],
)
def test_addresses(url: str, netloc: str, path: str) -> None:
    target = read_target(url)
    assert (target.netloc, target.path) == (netloc, path)
    assert read_target(target.url) == target


@pytest.mark.parametrize(
    "url",
    [
        "gateway.example",
        "https://gateway.example",
        "ws://",
        "ws://127.0.0.1:x",
        "wss://user:secret@gateway.example",
        "wss://gateway.example/#token=secret",
        "ws://gateway.example",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadTarget) as caught:
        read_target(url)
    assert "secret" not in str(caught.value)


def test_what_is_this_machine() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.9", "::1"))
    assert not any(is_loopback(host) for host in ("10.0.0.1", "localhost.example", ""))
