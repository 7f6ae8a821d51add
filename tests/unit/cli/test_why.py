"""`latchkey devices why`: which client is meant, what is said about a refusal, and what is not."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cli.fake_api import DEVICE_ID, REQUEST_ID, Api, paired, pending, run, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER_ID = "0" * 64
ALL = "/v1/refusals?limit=200"


def refusal(**other: Any) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    given = {
        "deviceId": DEVICE_ID,
        "proven": True,
        "undecided": False,
        "reason": "device-token-mismatch",
        "title": "its device token is not valid",
        "remedy": "Let it connect with the gateway token once.",
        "cause": "device-token-void",
        "count": 3,
        "firstAtMs": now_ms - 300_000,
        "lastAtMs": now_ms - 120_000,
        "past": False,
        "remoteIp": "203.0.113.7",
        "replica": "5562f03630bf0000",
        "clientId": "cli",
        "displayName": "Kitchen Mac",
        **other,
    }
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as api:
        api.say("GET", "/v1/requests", {"pending": []})
        api.say("GET", "/v1/devices", {"devices": [paired()]})
        api.say("GET", ALL, {"refusals": [refusal()]})
        yield api


@pytest.mark.parametrize(
    "who", [DEVICE_ID, DEVICE_ID[:8], DEVICE_ID[:12].upper(), "kitchen mac", "203.0.113.7"]
)
def test_a_device_is_found_by_id_name_or_address(api: Api, who: str) -> None:
    output = run(api, "devices", "why", who)
    assert output.exit_code == 0
    for text in (
        "Kitchen Mac: paired. never connected.",
        f"Kitchen Mac ({DEVICE_ID[:16]}): refused 2 min ago: its device token is not valid",
        "3, the first 5 min ago",
        "203.0.113.7",
        "5562f03630bf",
        "Let it connect with the gateway token once.",
        "`device-token-void` in docs/reference/causes.md",
    ):
        assert text in output.stdout, text


def test_a_request_id_leads_to_the_command_that_approves(api: Api) -> None:
    api.say("GET", "/v1/requests", {"pending": [pending()]})
    api.say("GET", "/v1/devices", {"devices": []})
    output = run(api, "devices", "why", REQUEST_ID)
    assert output.exit_code == 0
    assert f"  latchkey devices approve {REQUEST_ID}\n" in output.stdout
    assert "refused 2 min ago" in output.stdout


def test_claims_and_undecided_attempts_are_labelled(api: Api) -> None:
    claim = refusal(proven=False, reason="device-signature", title="its signature is not valid")
    away = refusal(undecided=True, reason="timeout", title="approval did not answer in time")
    api.say("GET", ALL, {"refusals": [claim, away]})
    output = run(api, "devices", "why", DEVICE_ID).stdout
    assert (
        f"A client that claims, without proof, to be Kitchen Mac ({DEVICE_ID[:16]}): refused"
        in output
    )
    assert f"Kitchen Mac ({DEVICE_ID[:16]}): could not be decided 2 min ago: approval did" in output


def test_a_device_that_is_neither_paired_nor_waits(api: Api) -> None:
    api.say("GET", ALL, {"refusals": [refusal(deviceId=OTHER_ID, reason="token-mismatch")]})
    output = run(api, "devices", "why", OTHER_ID[:8])
    assert output.exit_code == 0
    assert OTHER_ID in output.stdout


def test_a_device_without_refusals_is_reported(api: Api) -> None:
    api.say("GET", ALL, {"refusals": []})
    api.say("GET", f"{ALL}&deviceId={DEVICE_ID}", {"refusals": []})
    output = run(api, "devices", "why", DEVICE_ID)
    assert output.exit_code == 0
    assert "No gateway refused it in the last day." in output.stdout
    assert "latchkey doctor WSS-URL" in output.stdout


def test_older_refusals_of_a_known_device_are_asked_for(api: Api) -> None:
    api.say("GET", ALL, {"refusals": []})
    api.say("GET", f"{ALL}&deviceId={DEVICE_ID}", {"refusals": [refusal()]})
    assert "its device token is not valid" in run(api, "devices", "why", DEVICE_ID).stdout


def test_an_unknown_device_is_reported(api: Api) -> None:
    output = run(api, "devices", "why", "nobody")
    assert output.exit_code == 1
    assert "no device, request or refusal of the last day matches this" in output.stderr


def test_all_refusals_of_the_last_day_are_listed(api: Api) -> None:
    without = refusal(deviceId=None, proven=False, remoteIp=None, displayName=None, past=True)
    api.say("GET", ALL, {"refusals": [refusal(), without]})
    output = run(api, "devices", "why").stdout
    assert DEVICE_ID[:16] in output
    assert "no device" in output
    assert "this machine" in output
    assert "(admitted since)" in output
    claim = refusal(proven=False)
    api.say("GET", ALL, {"refusals": [claim]})
    assert "claims: Kitchen Mac" in run(api, "devices", "why").stdout
    api.say("GET", ALL, {"refusals": []})
    assert "No refusals" in run(api, "devices", "why").stdout


def test_the_json_contains_all_fields(api: Api) -> None:
    document = json.loads(run(api, "devices", "why", DEVICE_ID, "--json").stdout)
    assert [item["reason"] for item in document["refusals"]] == ["device-token-mismatch"]
    assert [device["deviceId"] for device in document["devices"]] == [DEVICE_ID]
    assert document["pending"] == []


def test_what_clients_say_of_themselves_moves_nothing(api: Api) -> None:
    bad = "\x1b[31m\u202eevil"
    worst = refusal(displayName=bad, clientId=bad, detail=bad, remoteIp=bad)
    api.say("GET", ALL, {"refusals": [worst]})
    for arguments in ((), (DEVICE_ID,)):
        output = run(api, "devices", "why", *arguments)
        assert output.exit_code == 0
        assert "evil" in output.stdout
        assert not {"\x1b", "\u202e"} & set(output.stdout)


class TestTheList:
    def listed(self, api: Api, **refused: Any) -> str:
        api.say("GET", "/v1/requests", {"pending": [pending(**refused)]})
        api.say("GET", "/v1/devices", {"devices": [paired(**refused)]})
        return run(api, "devices", "list").stdout

    def test_has_a_note_on_what_was_refused(self, api: Api) -> None:
        text = self.listed(api, lastRefusal=refusal(), lastRefusedClaim=refusal(proven=False))
        assert text.count("refused 2 min ago: its device token is not valid") == 4
        assert text.count("claimed: refused") == 2

    def test_has_none_on_what_is_past_or_only_waits(self, api: Api) -> None:
        assert "refused" not in self.listed(api, lastRefusal=refusal(past=True))
        assert "refused" not in self.listed(api, lastRefusal=refusal(reason="not-paired"))
