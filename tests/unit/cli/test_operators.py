"""`latchkey operators`: what is sent and shown, and what must be confirmed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from services.cli.config import Config
from services.cli.errors import Misused
from services.cli.text.expiry import expiry_ms
from tests.unit.cli.fake_api import Api, run, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW_MS = 1_790_000_000_000
TOKEN = "lko_alice_" + "x" * 43
ALICE: dict[str, Any] = {
    "name": "alice",
    "kind": "token",
    "permission": "decide",
    "createdAtMs": NOW_MS,
    "createdBy": "operator:admin",
}


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as api:
        admin = {"name": "admin", "kind": "admin", "permission": "manage"}
        expired = {**ALICE, "name": "bob", "expired": True, "expiresAtMs": NOW_MS}
        api.say("GET", "/v1/operators", {"operators": [admin, ALICE, expired]})
        api.say("POST", "/v1/operators", {"operator": ALICE, "token": TOKEN})
        api.say("DELETE", "/v1/operators/alice", {"revoked": ALICE})
        yield api


def test_the_list_says_who_may_do_what(api: Api) -> None:
    result = run(api, "operators", "list")
    assert result.exit_code == 0
    assert "Operators (3)" in result.stdout
    for text in ("admin", "manage", "APPROVAL_ADMIN_TOKEN", "alice", "decide", "(expired)"):
        assert text in result.stdout


def test_the_token_alone_is_printed(api: Api) -> None:
    result = run(api, "operators", "create", "alice", "--permission", "decide")
    assert result.stdout == f"{TOKEN}\n"
    assert "shown only now" in result.stderr
    assert json.loads(api.asked[-1][2]) == {"name": "alice", "permission": "decide"}
    shown = run(api, "operators", "create", "alice", "--permission", "decide", "--json")
    assert json.loads(shown.stdout)["token"] == TOKEN


def test_an_expiry_is_sent(api: Api) -> None:
    run(api, "operators", "create", "a", "--permission", "view", "--expires", "2999-01-01")
    assert json.loads(api.asked[-1][2])["expiresAtMs"] == 32_472_144_000_000


@pytest.mark.parametrize("name", ["<b>", "Alice", "../x", "a" * 33])
def test_an_invalid_name_is_not_sent(api: Api, name: str) -> None:
    assert run(api, "operators", "create", name, "--permission", "view").exit_code == 2
    assert run(api, "operators", "revoke", name, "--yes").exit_code == 2
    assert api.asked == []


def test_revoking_is_confirmed(api: Api) -> None:
    assert run(api, "operators", "revoke", "alice").exit_code == 6
    assert api.changed == []
    assert run(api, "operators", "revoke", "alice", "--yes").exit_code == 0
    assert api.changed == ["/v1/operators/alice"]


def test_what_approval_refuses_is_shown(api: Api) -> None:
    api.problem("POST", "/v1/operators", 403, "not-allowed")
    result = run(api, "operators", "create", "bob", "--permission", "manage")
    assert result.exit_code == 1
    assert "Title of not-allowed" in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30min", 1_800_000), ("12h", 43_200_000), ("90d", 7_776_000_000), (" 1 d ", 86_400_000)],
)
def test_a_time_from_now(text: str, expected: int) -> None:
    assert expiry_ms(text, NOW_MS) == NOW_MS + expected


@pytest.mark.parametrize(
    "text", ["", "0d", "-1d", "1w", "1.5h", "2020-01-01", "soon", "2027-13-01"]
)
def test_no_time(text: str) -> None:
    with pytest.raises(Misused):
        expiry_ms(text, NOW_MS)


def test_an_operators_own_token_is_used_first() -> None:
    environ = {"APPROVAL_ADMIN_TOKEN": "of the admin", "APPROVAL_OPERATOR_TOKEN": TOKEN}
    assert Config(environ).admin_token == TOKEN
