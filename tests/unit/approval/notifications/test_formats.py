"""Bodies of webhooks: names of devices are neutralized in every format."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.approval.domain.records import AuditEntry
from services.approval.notifications import event as events
from services.approval.notifications.event import Event
from services.approval.notifications.formats import FORMATS, body_of, plain_line
from shared.rpc.messages import Changed, Position

URL = "https://approval.example"
DEVICE = "ab" * 32
HOSTILE = (
    "@everyone",
    "<!channel> <!here> <@U012AB3CD>",
    "<https://evil.example|click>",
    "[click](https://evil.example)",
    "``` code",
    "**bold** _it_ ~~gone~~ ||spoiler||",
    "line\nbreak\r\nand\u2028more\u2029",
    "\u202eright to left\u2066",
    "\x00\x1b[31mred",
    "&amp; & &lt;",
    "`@here`",
    "zero\u200bwidth\u200d\u2060\ufeffjoined",
    "\U000e0041\U000e0042 tags",
)


def event(name: str, kind: str = events.WAITING) -> Event:
    """Return an event about a device of this name."""
    return Event(
        id="msg_1", type=kind, at_ms=1_700_000_000_123, device_id=DEVICE, name=name,
        request_id="req-1", role="operator", scopes=("operator.read",), address="203.0.113.7",
        platform="ios", actor="operator:alice",
    )  # fmt: skip


def body(form: Any, name: str, kind: str = events.WAITING) -> Any:
    """Return the decoded body."""
    return json.loads(body_of(form, event(name, kind), public_url=URL, topic="topic"))


NAMES = st.one_of(st.text(max_size=300), st.sampled_from(HOSTILE)) | st.lists(
    st.sampled_from(HOSTILE), min_size=1, max_size=3
).map(" ".join)


@given(NAMES)
def test_a_line_stays_one_visible_line(name: str) -> None:
    line = plain_line(name)
    assert len(line) <= 80
    allowed = {" ", "\u200b"}
    assert all(unicodedata.category(one)[0] not in "CZ" or one in allowed for one in line)
    assert "://" not in line


@given(NAMES)
def test_slack_interprets_no_part_of_a_name(name: str) -> None:
    sent = body("slack", name)
    first, second = sent["blocks"]
    assert first["text"]["type"] == "plain_text"
    assert first["text"]["emoji"] is False
    assert second["text"]["text"] == f"<{URL}/setup#request=req-1|Open in Latchkey>"
    assert "<" not in sent["text"]
    assert ">" not in sent["text"]
    assert "@" not in sent["text"].replace("@\u200b", "")
    assert (sent["mrkdwn"], sent["link_names"], sent["parse"]) == (False, False, "none")
    assert len(first["text"]["text"]) < 3_000


@given(NAMES)
def test_discord_mentions_nobody_and_shows_a_name_as_code(name: str) -> None:
    sent = body("discord", name)
    assert sent["allowed_mentions"] == {"parse": []}
    title, *lines, link = sent["content"].split("\n")
    assert title == "**A device is waiting for approval**"
    assert link == f"<{URL}/setup#request=req-1>"
    for line in lines:
        assert line[0] == line[-1] == "`"
        assert "`" not in line[1:-1]
        assert line[1:-1].strip()
    assert len(sent["content"]) < 2_000


@given(NAMES)
def test_ntfy_has_one_line_for_a_name(name: str) -> None:
    sent = body("ntfy", name)
    assert sent["topic"] == "topic"
    assert sent["click"] == f"{URL}/setup#request=req-1"
    assert len(sent["message"].split("\n")) == 5
    assert "markdown" not in sent


@given(NAMES)
def test_json_carries_the_name_as_data(name: str) -> None:
    sent = body("json", name)
    assert sent["type"] == "device.waiting"
    assert sent["timestamp"] == "2023-11-14T22:13:20.123Z"
    assert sent["data"].get("name", "") == name
    assert sent["data"]["link"] == f"{URL}/setup#request=req-1"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "kind",
    [
        events.WAITING, events.APPROVED, events.REJECTED, events.REMOVED, events.LOCKED_OUT,
        events.HISTORY_LOST, events.MISSED, events.TEST,
    ],
)  # fmt: skip
def test_every_event_has_a_body_with_and_without_details(form: Any, kind: str) -> None:
    for one in (event("phone", kind), Event(id="m", type=kind, at_ms=0)):
        for url in (URL, ""):
            sent = json.loads(body_of(form, one, public_url=url, topic="t"))
            assert sent
            assert ("Open in Latchkey" in str(sent)) == (form == "slack" and url == URL)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("at_ms", [-1, 10**18, 10**30])
def test_a_time_that_no_date_can_express_stops_nothing(form: Any, at_ms: int) -> None:
    odd = Event(id="msg_1", type=events.LOCKED_OUT, at_ms=at_ms, until_ms=at_ms)
    assert json.loads(body_of(form, odd, public_url=URL, topic="topic"))


def test_who_decided_is_named() -> None:
    for form in ("slack", "discord", "ntfy"):
        assert "By: operator:alice" in str(body(form, "phone", events.APPROVED))
    assert body("json", "phone", events.APPROVED)["data"]["actor"] == "operator:alice"


def test_links_lead_to_the_request_or_device() -> None:
    odd = Event(id="m", type=events.WAITING, at_ms=0, request_id="a&b#c<d>")
    assert events.link_to(odd, URL) == f"{URL}/setup#request=a%26b%23c%3Cd%3E"
    assert events.link_to(event("n", events.APPROVED), URL) == f"{URL}/setup#device={DEVICE}"
    assert events.link_to(event("n", events.LOCKED_OUT), URL) == f"{URL}/setup"
    assert events.link_to(event("n"), "") == ""


class TestOfChange:
    def change(self, kind: str, request: bytes = b"") -> Changed:
        return Changed(
            Position(7, "tag"), "before", DEVICE, kind, 5, request_id="r", request=request
        )

    def test_other_changes_are_not_notified(self) -> None:
        for kind in ("renamed", "token-issued", "expired", "displaced", "rotated", "made-up"):
            assert events.of_change(self.change(kind), None) is None

    def test_without_an_entry_the_request_itself_is_read(self) -> None:
        raw = b'{"displayName":"Phone","role":"node","scopes":["a"],"platform":"ios","x":1}'
        found = events.of_change(self.change("requested", raw), None)
        assert found is not None
        assert (found.name, found.role, found.scopes) == ("Phone", "node", ("a",))
        assert events.of_change(self.change("requested", b"{broken"), None) is not None

    def test_the_same_change_always_has_the_same_id(self) -> None:
        entry = AuditEntry("approved", DEVICE, "operator:alice", 5, name="Phone")
        first = events.of_change(self.change("approved"), entry)
        second = events.of_change(self.change("approved"), None)
        assert first is not None
        assert second is not None
        assert first.id == second.id == "msg_tag7"
        assert (first.name, first.actor, second.actor) == ("Phone", "operator:alice", "")

    def test_long_texts_are_cut(self) -> None:
        entry = AuditEntry(
            "approved", DEVICE, "x" * 999, 5, name="y" * 999, scopes=("z" * 999,) * 99
        )
        found = events.of_change(self.change("approved"), entry)
        assert found is not None
        assert len(events.encode(found)) < 6_000
