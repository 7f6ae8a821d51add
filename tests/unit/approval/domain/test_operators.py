"""Tokens of named operators, and which stored operator one belongs to."""

from __future__ import annotations

import base64
import secrets

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.approval.domain.operators import (
    OperatorRecord,
    Operators,
    digest_of,
    make_token,
    name_in,
    read_operators,
)
from services.approval.domain.permissions import Permission

NOW_MS = 1_700_000_000_000
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)


def new_secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def operator(token: str, *, operator_id: str = "1" * 32, expires_at_ms: int = 0) -> OperatorRecord:
    return OperatorRecord(
        operator_id, "decide", digest_of(token), NOW_MS, "operator:admin", expires_at_ms
    )


@given(NAMES)
def test_a_token_names_its_operator_and_only_its_holder_is_found(name: str) -> None:
    token = make_token(name, new_secret())
    known = Operators("v", {name: operator(token)})
    assert name_in(token) == name
    found = known.holder_of(token, NOW_MS)
    assert found is not None
    assert found[0] == name
    assert found[1].held is Permission.DECIDE
    assert known.holder_of(make_token(name, new_secret()), NOW_MS) is None


@given(NAMES, NAMES)
def test_the_token_of_one_operator_is_nobody_elses(one: str, other: str) -> None:
    token = make_token(one, new_secret())
    renamed = make_token(other, token[-43:])
    known = Operators("v", {one: operator(token), other: operator(make_token(other, new_secret()))})
    if one != other:
        assert known.holder_of(renamed, NOW_MS) is None
        assert known.holder_of(token, NOW_MS)


@given(st.text(max_size=60))
def test_anything_else_names_nobody(text: str) -> None:
    known = Operators("v", {"a": operator(make_token("a", new_secret()))})
    assert known.holder_of(text, NOW_MS) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "lko_",
        "lko_a_",
        f"lko__{'x' * 43}",
        f"lko_A_{'x' * 43}",
        f"lko_a_{'x' * 42}",
        f"lko_a_{'x' * 44}",
        f" lko_a_{'x' * 43}",
        f"lko_a_{'x' * 43}\n",
        f"lko_<b>_{'x' * 43}",
        f"lko_{'a' * 33}_{'x' * 43}",
    ],
)
def test_malformed_tokens(token: str) -> None:
    assert name_in(token) == ""


def test_a_token_expires_to_the_millisecond() -> None:
    token = make_token("a", new_secret())
    known = Operators("v", {"a": operator(token, expires_at_ms=NOW_MS)})
    assert known.holder_of(token, NOW_MS - 1)
    assert known.holder_of(token, NOW_MS) is None
    assert known.live("a", "1" * 32, NOW_MS - 1)
    assert known.live("a", "1" * 32, NOW_MS) is None


def test_a_session_belongs_to_one_operator_and_not_to_the_next_of_that_name() -> None:
    known = Operators("v", {"a": operator("t", operator_id="2" * 32)})
    assert known.live("a", "2" * 32, NOW_MS)
    assert known.live("a", "1" * 32, NOW_MS) is None
    assert known.live("b", "2" * 32, NOW_MS) is None


def test_the_stored_value_is_read_back_and_holds_no_token() -> None:
    token = make_token("a", new_secret())
    value = b"0123456789abcdef" + Operators("", {"a": operator(token)}).encoded()
    found = read_operators(value)
    assert (found.version, found.by_name) == (b"0123456789abcdef", {"a": operator(token)})
    assert token.encode() not in value
    assert token[-43:].encode() not in value
    assert read_operators(None).by_name == {}
    with pytest.raises(msgspec.DecodeError):
        read_operators(value[:-3])


def test_a_permission_that_this_release_does_not_know_permits_the_least() -> None:
    record = OperatorRecord("1", "everything", b"", 0, "x")  # type: ignore[arg-type]
    assert record.held is Permission.VIEW
