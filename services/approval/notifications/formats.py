"""Bodies of webhooks: plain JSON, Slack, Discord and ntfy. Pure.

Devices choose their names. Wherever a format interprets text, names are neutralized: they contain
no line break or invisible character, mention nobody, link nowhere and cannot change the layout.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from services.approval.domain.text import one_line
from services.approval.notifications import event as events
from services.approval.notifications.event import Event, link_to

Format = Literal["json", "slack", "discord", "ntfy"]
FORMATS: Final[tuple[Format, ...]] = ("json", "slack", "discord", "ntfy")
NAME_LIMIT_CHARACTERS: Final = 80
"""Max. length of a name in a sentence."""
_LAST_MS: Final = 253_402_300_799_000
"""The last second of the year 9999."""
_ZERO_WIDTH_SPACE: Final = "\u200b"
_encode: Final = msgspec.json.Encoder().encode

_TITLES: Final = {
    events.WAITING: "A device is waiting for approval",
    events.APPROVED: "A device was approved",
    events.REJECTED: "A request was rejected",
    events.REMOVED: "A device was removed",
    events.LOCKED_OUT: "An address is locked out",
    events.HISTORY_LOST: "Redis lost history",
    events.MISSED: "Notifications were not delivered",
    events.TEST: "Test notification",
}
_PRIORITIES: Final = {events.WAITING: 4, events.LOCKED_OUT: 4, events.HISTORY_LOST: 5}
_TAGS: Final = {
    events.WAITING: "hourglass",
    events.APPROVED: "white_check_mark",
    events.REJECTED: "no_entry",
    events.REMOVED: "wastebasket",
    events.LOCKED_OUT: "lock",
    events.HISTORY_LOST: "warning",
    events.MISSED: "warning",
}
_EXPLAINED: Final = {
    events.HISTORY_LOST: "All connections are evaluated again. See the audit log.",
    events.TEST: "Notifications from Latchkey arrive here.",
}


def body_of(form: Format, event: Event, *, public_url: str, topic: str = "") -> bytes:
    """Return the body of a notification. `topic` is that of ntfy."""
    link = link_to(event, public_url)
    if form == "slack":
        return _encode(_slack(event, link))
    if form == "discord":
        return _encode(_discord(event, link))
    if form == "ntfy":
        return _encode(_ntfy(event, link, topic))
    return _encode(_json(event, link))


def _json(event: Event, link: str) -> dict[str, Any]:
    """Return the body that Standard Webhooks recommends; texts are data and stay unchanged."""
    data = {
        "deviceId": event.device_id,
        "name": event.name,
        "requestId": event.request_id,
        "role": event.role,
        "scopes": event.scopes,
        "platform": event.platform,
        "address": event.address,
        "credential": event.credential,
        "actor": event.actor,
        "until": _iso(event.until_ms) if event.until_ms else "",
        "missed": event.missed,
        "link": link,
    }
    return {
        "type": event.type,
        "timestamp": _iso(event.at_ms),
        "data": {key: value for key, value in data.items() if value},
    }


def _slack(event: Event, link: str) -> dict[str, Any]:
    """Return blocks whose variable texts are `plain_text`, which Slack does not interpret."""
    title, lines = _words(event)
    text = "\n".join((title, *lines))
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}}
    ]
    if link:
        blocks.append(
            {"type": "section", "text": {"type": "mrkdwn", "text": f"<{link}|Open in Latchkey>"}}
        )
    return {
        "text": _slack_escaped(text),
        "mrkdwn": False,
        "link_names": False,
        "parse": "none",
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": blocks,
    }


def _slack_escaped(text: str) -> str:
    """Escape the text that Slack shows where it shows no blocks."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("@", "@" + _ZERO_WIDTH_SPACE)


def _discord(event: Event, link: str) -> dict[str, Any]:
    """Return a message whose variable lines are inline code, which Discord does not interpret."""
    title, lines = _words(event)
    code = [f"`{line.replace('`', chr(0x02CB))}`" for line in lines]
    return {
        "content": "\n".join((f"**{title}**", *code, *([f"<{link}>"] if link else []))),
        "allowed_mentions": {"parse": []},
        "flags": 4,  # no previews of links
    }


def _ntfy(event: Event, link: str, topic: str) -> dict[str, Any]:
    """Return a message for ntfy, which shows it as plain text."""
    title, lines = _words(event)
    body: dict[str, Any] = {
        "topic": topic,
        "title": title,
        "message": "\n".join(lines) or title,
        "priority": _PRIORITIES.get(event.type, 3),
    }
    if event.type in _TAGS:
        body["tags"] = [_TAGS[event.type]]
    if link:
        body["click"] = link
    return body


def _words(event: Event) -> tuple[str, list[str]]:
    """Return title and lines of a notification, without line breaks or invisible characters."""
    lines = [_device(event)] if event.device_id else []
    if event.role:
        lines.append("Rights: " + plain_line(", ".join((event.role, *event.scopes))))
    waits = event.type == events.WAITING
    facts = {
        "Platform": event.platform,
        "Address": event.address,
        "Too many wrong secrets": event.credential,
        "Until": _iso(event.until_ms) if event.until_ms else "",
        "By": "" if waits else event.actor,
        "Request": event.request_id if waits else "",
    }
    lines += [f"{label}: {plain_line(fact)}" for label, fact in facts.items() if fact]
    if event.type == events.MISSED:
        lines.append(_missed(event.missed))
    if event.type in _EXPLAINED:
        lines.append(_EXPLAINED[event.type])
    return _TITLES.get(event.type, plain_line(event.type)), lines


def _device(event: Event) -> str:
    name = plain_line(event.name)
    return f"{name} ({event.device_id[:12]})" if name else event.device_id[:12]


def _missed(count: int) -> str:
    if count:
        return f"{count} notifications were dropped. The page shows what happened."
    return "An unknown number of notifications was dropped. The page shows what happened."


def plain_line(text: str) -> str:
    """Return a text as one line without invisible or bidirectional control characters."""
    line = one_line(text).replace("://", ":" + _ZERO_WIDTH_SPACE + "//")
    return line if len(line) <= NAME_LIMIT_CHARACTERS else line[: NAME_LIMIT_CHARACTERS - 1] + "…"


def _iso(at_ms: int) -> str:
    """Return a time in ISO 8601; one that no date can express becomes the nearest that is."""
    moment = datetime.fromtimestamp(min(max(at_ms, 0), _LAST_MS) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def topic_of(url: str) -> tuple[str, str]:
    """Return the address to publish to and the topic, of an address like https://ntfy.sh/topic."""
    parts = urlsplit(url)
    return parts._replace(path="/").geturl(), parts.path.strip("/")
