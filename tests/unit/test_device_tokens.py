"""Device tokens with and without the device id in front."""

from __future__ import annotations

import secrets

import pytest

from shared.device_tokens import (
    MAC_CHARACTERS,
    NAMED_CHARACTERS,
    may_be_derived,
    owner_and_token,
    with_device_id,
    without_device_id,
)

DEVICE_ID = secrets.token_hex(32)
TOKEN = "T-4U46ta5hUTCnMLpipjc8wgrIh61PxJT-nXQfvpr80"


def test_what_was_put_in_front_comes_off_again() -> None:
    named = with_device_id(TOKEN, DEVICE_ID)
    assert (len(TOKEN), len(named)) == (MAC_CHARACTERS, NAMED_CHARACTERS)
    assert owner_and_token(named) == (DEVICE_ID, TOKEN)
    assert without_device_id(named, DEVICE_ID) == TOKEN


def test_a_token_of_another_device_stays_as_it_came() -> None:
    named = with_device_id(TOKEN, DEVICE_ID)
    assert without_device_id(named, secrets.token_hex(32)) == named


@pytest.mark.parametrize("text", [TOKEN, "", "short", "x" * 64, "a" * 43, TOKEN + TOKEN[:42]])
def test_a_text_without_a_device_id_is_valid_as_before(text: str) -> None:
    assert without_device_id(text, DEVICE_ID) == text


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        "",
        "=" * 86,
        "é" * 86,
        "A" * 85 + "B",  # bits beyond the last byte
        "A" * 84 + "==",
        "A" * 40 + "+" + "A" * 45,
        "A" * 40 + "\n" + "A" * 45,
    ],
)
def test_only_one_spelling_of_a_token_names_a_device(text: str) -> None:
    assert owner_and_token(text) is None


@pytest.mark.parametrize("device_id", ["", "zz" * 32, "ab" * 31])
def test_nothing_is_put_before_a_token_but_a_device_id(device_id: str) -> None:
    assert with_device_id(TOKEN, device_id) == TOKEN


def test_the_form_of_a_derived_token_is_known() -> None:
    assert may_be_derived(TOKEN)
    assert not may_be_derived(with_device_id(TOKEN, DEVICE_ID))
    assert not may_be_derived(secrets.token_hex(32))
