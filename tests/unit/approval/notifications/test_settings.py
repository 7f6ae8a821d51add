"""Settings of notifications: every problem in one message, and no secret in any of them."""

from __future__ import annotations

import base64

import pytest

from services.approval.notifications.settings import WebhookSettings, read_webhooks
from shared.settings.environment import SettingsError, SettingsReader

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
HIDDEN = "T00000000/B00000000/hidden"
SLACK = f"slack+https://hooks.slack.com/services/{HIDDEN}"


def read(**environ: str) -> WebhookSettings:
    """Read settings; raises SettingsError."""
    reader = SettingsReader(environ)
    found = read_webhooks(reader)
    reader.finish()
    return found


def problems(**environ: str) -> list[str]:
    """Return the problems of these settings."""
    with pytest.raises(SettingsError) as raised:
        read(**environ)
    return list(raised.value.problems)


def test_nothing_is_sent_by_default() -> None:
    found = read()
    assert (found.targets, bool(found.keys), found.private_addresses) == ((), False, False)


def test_targets_are_named_by_format_and_number() -> None:
    listed = f"{SLACK}, ntfy+https://ntfy.sh/topic ,{SLACK}2,json+https://a.example:8443/in?x=1"
    found = read(WEBHOOK_TARGETS=listed, WEBHOOK_SECRETS=SECRET)
    assert [(one.name, one.host) for one in found.targets] == [
        ("slack-1", "hooks.slack.com"),
        ("ntfy-1", "ntfy.sh"),
        ("slack-2", "hooks.slack.com"),
        ("json-1", "a.example:8443"),
    ]
    assert (found.targets[1].url, found.targets[1].topic) == ("https://ntfy.sh/", "topic")
    assert "hidden" not in repr(found)
    assert SECRET[6:] not in repr(found)


def test_a_targets_key_does_not_depend_on_its_place() -> None:
    first = read(WEBHOOK_TARGETS=f"{SLACK},{SLACK}2").targets
    second = read(WEBHOOK_TARGETS=f"{SLACK}2,{SLACK}").targets
    assert [one.key for one in first] == [one.key for one in reversed(second)]


def test_all_problems_are_reported_and_no_address_or_secret() -> None:
    targets = [
        f"teams+https://example.com/{HIDDEN}",
        f"json+http://example.com/{HIDDEN}",
        f"json+https://user:{HIDDEN}@127.0.0.1/",
        f"https://example.com/{HIDDEN}",
        f"ntfy+https://ntfy.sh/a/{HIDDEN}",
        f"json+https://example.com/#{HIDDEN}",
        f"json+https://exa mple.com/{HIDDEN}",
        f"json+https://[::1/{HIDDEN}",
        f"json+https://example.com:99999/{HIDDEN}",
        SLACK,
        SLACK,
    ]
    found = problems(
        WEBHOOK_TARGETS=",".join(targets),
        WEBHOOK_SECRETS=f"whsec_{HIDDEN}!,{SECRET},hidden,whsec_{base64.b64encode(b'short').decode()}",
        WEBHOOK_PRIVATE_ADDRESSES="maybe",
    )
    assert "hidden" not in "".join(found)
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11):
        assert [one for one in found if f"target {number}:" in one or f"target {number} " in one]
    assert len([one for one in found if "WEBHOOK_SECRETS: secret" in one]) == 3
    assert [one for one in found if one.startswith("WEBHOOK_PRIVATE_ADDRESSES=maybe")]


def test_json_needs_a_secret() -> None:
    (problem,) = problems(WEBHOOK_TARGETS="json+https://example.com/")
    assert "WEBHOOK_SECRETS is required" in problem
    assert read(WEBHOOK_TARGETS=SLACK).targets


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "localhost"],
)
def test_private_hosts_need_to_be_enabled(host: str) -> None:
    (problem,) = problems(WEBHOOK_TARGETS=f"slack+https://{host}/")
    assert "WEBHOOK_PRIVATE_ADDRESSES=yes" in problem
    assert read(WEBHOOK_TARGETS=f"slack+http://{host}/", WEBHOOK_PRIVATE_ADDRESSES="yes").targets


@pytest.mark.parametrize(
    "host",
    [
        "\uff11\uff12\uff17.0.0.1",  # full-width digits, which aiohttp reads as 127
        "127\u30020\u30020\u30021",
        "\u24db\u24decalhost",
        "127.1",
        "2130706433",
        "127.0.0.1.",
        "0",
    ],
)
@pytest.mark.parametrize("private", ["yes", "no"])
def test_a_host_that_is_read_as_another_is_refused(host: str, private: str) -> None:
    (problem,) = problems(
        WEBHOOK_TARGETS=f"slack+https://{host}/", WEBHOOK_PRIVATE_ADDRESSES=private
    )
    assert "ASCII" in problem


def test_too_many_targets() -> None:
    listed = ",".join(f"{SLACK}{number}" for number in range(17))
    (problem,) = problems(WEBHOOK_TARGETS=listed)
    assert "17 targets, at most 16" in problem
