"""Addresses typed by people."""

from __future__ import annotations

import pytest

from shared.addresses.typed import AddressError, approval_address, gateway_address, is_this_machine


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("http://127.0.0.1:28790", "http://127.0.0.1:28790"),
        (" https://a.example/ ", "https://a.example"),
        ("https://a.example/latchkey/", "https://a.example/latchkey"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_address_of_approval_is_completed(typed: str, meant: str) -> None:
    assert approval_address(typed) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ws://127.0.0.1:28789", "ws://127.0.0.1:28789"),
        ("https://a.example/openclaw/#token", "wss://a.example/openclaw"),
        ("http://localhost:1", "ws://localhost:1"),
    ],
)
def test_an_address_of_a_gateway_is_completed(typed: str, meant: str) -> None:
    assert gateway_address(typed) == meant


WRONG = [
    ("127.0.0.1:28790", "write http://127.0.0.1:28790"),
    ("localhost:28790", "write http://localhost:28790"),
    ("a.example", "write https://a.example"),
    ("", "has no scheme"),
    ("ftp://a.example", "does not start with https:// or http://"),
    ("https://", "names no host"),
    ("https://:443", "names no host"),
    ("http://a.example:99999", "the port must be a number"),
    ("http://a.example:x", "the port must be a number"),
    ("http://[::1", "IPv6 address must be in brackets"),
    ("https://user:word@a.example", "leave them out"),
    ("https://a.exa mple", "space"),
]


@pytest.mark.parametrize(("typed", "expected"), WRONG)
def test_what_is_no_address_is_refused_with_one_sentence(typed: str, expected: str) -> None:
    with pytest.raises(AddressError, match=r"^[^\n]+$") as caught:
        approval_address(typed)
    assert expected in str(caught.value)
    with pytest.raises(AddressError, match=r"^[^\n]+$"):
        gateway_address(typed)


@pytest.mark.parametrize("typed", ["https://a.example/setup", "https://a.example/setup/#x"])
def test_the_address_of_the_page_is_refused_with_the_address_that_is_meant(typed: str) -> None:
    with pytest.raises(AddressError) as caught:
        approval_address(typed)
    assert "(https://a.example)" in str(caught.value)


@pytest.mark.parametrize("typed", ["https://a.example?x=1", "https://a.example#x"])
def test_an_address_of_approval_holds_no_query_and_no_fragment(typed: str) -> None:
    with pytest.raises(AddressError, match="leave it out"):
        approval_address(typed)


def test_a_password_is_never_repeated() -> None:
    with pytest.raises(AddressError) as caught:
        approval_address("https://user:word@a.example")
    assert "word@" not in str(caught.value)


def test_loopback_is_this_machine() -> None:
    assert is_this_machine("http://127.0.0.1:1")
    assert is_this_machine("ws://[::1]:1")
    assert is_this_machine("http://localhost")
    assert not is_this_machine("https://a.example")
    assert not is_this_machine("https://127.0.0.1.example")
