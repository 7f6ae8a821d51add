"""`latchkey webhooks`: what is shown of targets, and when a test has succeeded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from services.cli.commands import webhooks
from tests.unit.cli.fake_api import Api, run, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

WELL: dict[str, Any] = {
    "name": "slack-1",
    "format": "slack",
    "host": "hooks.slack.com",
    "delivered": 7,
    "lastDeliveredAtMs": 1_790_000_000_000,
    "lastDeliveredId": "msg_test",
}
ILL: dict[str, Any] = {
    "name": "json-1",
    "format": "json",
    "host": "a.example:8443",
    "queued": 3,
    "dropped": 2,
    "givenUp": 1,
    "failingSinceMs": 1_790_000_000_000,
    "lastError": "HTTP 500\x1b[31m",
}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(webhooks, "TEST_SECONDS", 0.3)
    monkeypatch.setattr(webhooks, "LOOK_SECONDS", 0.05)
    with serving() as api:
        api.say("GET", "/v1/webhooks", {"webhooks": [WELL, ILL]})
        for name in ("slack-1", "json-1"):
            tested = {"name": name, "notificationId": "msg_test"}
            api.say("POST", f"/v1/webhooks/{name}/test", tested)
        yield api


def test_the_list_shows_state_and_error(api: Api) -> None:
    result = run(api, "webhooks", "list")
    assert result.exit_code == 0
    for text in ("Targets (2)", "slack-1", "hooks.slack.com", "failing: HTTP 500", "ok"):
        assert text in result.stdout
    assert "\x1b[31m" not in result.stdout


def test_without_targets_the_setting_is_named(api: Api) -> None:
    api.say("GET", "/v1/webhooks", {"webhooks": []})
    assert "WEBHOOK_TARGETS" in run(api, "webhooks", "list").stdout


def test_a_delivered_test_succeeds(api: Api) -> None:
    result = run(api, "webhooks", "test", "slack-1")
    assert (result.exit_code, result.stdout) == (0, "slack-1: delivered\n")
    assert api.changed == ["/v1/webhooks/slack-1/test"]


def test_a_target_that_fails_makes_the_test_fail(api: Api) -> None:
    result = run(api, "webhooks", "test", "--json")
    assert result.exit_code == 1
    assert [one["outcome"] for one in json.loads(result.stdout)["tests"]] == ["delivered", "failed"]
    assert "json-1" in run(api, "webhooks", "test").stderr


def test_one_that_only_waits_is_not_reported_as_delivered(api: Api) -> None:
    waiting = {**WELL, "queued": 4, "lastDeliveredId": "msg_other"}
    api.say("GET", "/v1/webhooks", {"webhooks": [waiting]})
    result = run(api, "webhooks", "test")
    assert result.exit_code == 1
    assert "still waiting, 4 in the queue" in result.stdout


def test_an_unknown_target_is_not_called(api: Api) -> None:
    result = run(api, "webhooks", "test", "ntfy-1")
    assert result.exit_code == 2
    assert "slack-1, json-1" in result.stderr
    assert api.changed == []


def test_a_test_that_was_given_up_was_not_delivered(api: Api) -> None:
    """Then nothing waits any more, but the target has accepted nothing."""
    api.say("GET", "/v1/webhooks", {"webhooks": [{**ILL, "queued": 0}]})
    result = run(api, "webhooks", "test", "json-1", "--json")
    assert result.exit_code == 1
    assert [one["outcome"] for one in json.loads(result.stdout)["tests"]] == ["failed"]
