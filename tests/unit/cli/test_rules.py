"""`latchkey rules`: what is sent, what a trial shows, and what must be confirmed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from shared.device.identity import DeviceKey
from tests.unit.cli.fake_api import DEVICE_ID, REQUEST_ID, Api, run, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_MS = 1_790_000_000_000
RULE: dict[str, Any] = {
    "name": "kiosks",
    "state": "active",
    "role": "node",
    "scopes": ["node.run"],
    "networks": ["192.0.2.0/24"],
    "deviceIds": [],
    "expiresAtMs": AT_MS,
    "count": 5,
    "used": 2,
    "allowAdmin": False,
    "createdAtMs": AT_MS,
    "createdBy": "operator:admin",
}
KIOSKS = ("kiosks", "--role", "node", "--network", "192.0.2.0/24", "--expires", "2999-01-01")


def tried(**more: Any) -> dict[str, Any]:
    return {
        "requestId": REQUEST_ID,
        "deviceId": DEVICE_ID,
        "role": "node",
        "scopes": [],
        "address": "192.0.2.7",
        "atMs": AT_MS,
        "approved": True,
        **more,
    }


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as api:
        api.say("GET", "/v1/rules", {"rules": [RULE]})
        api.say("POST", "/v1/rules", {"rule": RULE})
        api.say("DELETE", "/v1/rules/kiosks", {"removed": RULE})
        refused = tried(approved=False, uncovered="network", address="\x1b[31m198.51.100.7")
        past = [tried(auditId=7)]
        api.say("POST", "/v1/rule-trials", {"pending": [tried(), refused], "past": past})
        yield api


def test_the_list_says_what_each_covers(api: Api) -> None:
    result = run(api, "rules", "list")
    for text in ("Rules (1)", "kiosks", "active", "node.run", "192.0.2.0/24", "2 of 5"):
        assert text in result.stdout
    api.say("GET", "/v1/rules", {"rules": []})
    assert "a person approves every device" in run(api, "rules", "list").stdout


def test_a_trial_changes_nothing(api: Api) -> None:
    result = run(api, "rules", "test", *KIOSKS)
    assert result.exit_code == 0
    assert "Of 2 requests waiting now, the rule would approve 1." in result.stdout
    assert "Of 1 requests in the audit log, the rule would approve 1." in result.stdout
    assert "another network" in result.stdout
    assert "\x1b" not in result.stdout
    assert api.changed == ["/v1/rule-trials"]


def test_adding_is_confirmed_and_sends_the_whole_rule(api: Api) -> None:
    assert run(api, "rules", "add", *KIOSKS).exit_code == 6
    assert api.changed == ["/v1/rule-trials"]
    key = DeviceKey.generate()
    more = ("--count", "5", "--scope", "node.run", "--key", key.public_key, "--yes")
    assert run(api, "rules", "add", *KIOSKS, *more).exit_code == 0
    assert api.changed[-1] == "/v1/rules"
    assert json.loads(api.asked[-1][2]) == {
        "name": "kiosks",
        "role": "node",
        "scopes": ["node.run"],
        "networks": ["192.0.2.0/24"],
        "deviceIds": [key.device_id],
        "expiresAtMs": 32_472_144_000_000,
        "count": 5,
        "allowAdmin": False,
    }


def test_what_contradicts_itself_is_said(api: Api) -> None:
    api.problem("POST", "/v1/rule-trials", 409, "invalid-rule")
    result = run(api, "rules", "add", *KIOSKS, "--yes")
    assert result.exit_code == 1
    assert "Its detail." in result.stderr
    assert "/v1/rules" not in api.changed


@pytest.mark.parametrize(
    "wrong", [("--expires", "soon"), ("--key", "x"), ("--role", "admin"), ("--count", "many")]
)
def test_wrong_options(api: Api, wrong: tuple[str, str]) -> None:
    assert run(api, "rules", "test", *KIOSKS, *wrong).exit_code == 2
    assert api.asked == []


def test_removing_is_confirmed(api: Api) -> None:
    assert run(api, "rules", "remove", "kiosks").exit_code == 6
    assert api.changed == []
    result = run(api, "rules", "remove", "kiosks", "--yes")
    assert result.stdout == "Removed rule kiosks. It had approved 2.\n"
    assert run(api, "rules", "remove", "../x", "--yes").exit_code == 2
