"""Targets of notifications, as configured. Pure.

An address may be a secret, as those of Slack and Discord are. Therefore a target is shown by its
name and host alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from services.approval.notifications.formats import FORMATS, Format, topic_of

TARGETS_LIMIT: Final = 16
"""Max. number of targets; each has a queue and a task."""
URL_LIMIT_CHARACTERS: Final = 2_000
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Target:
    """A target. `key` names its queue: it stays the same when the list of targets changes."""

    name: str
    form: Format
    host: str
    key: str
    url: str = field(repr=False)
    topic: str = field(default="", repr=False)


class InvalidTarget(Exception):
    """Why a target cannot be used; the reason never contains its address."""


def read_target(text: str, number: int, *, allow_http: bool) -> Target:
    """Read a target of the form `FORMAT+https://…`; `number` is its place among those of a format.

    Raises InvalidTarget.
    """
    form, plus, url = text.partition("+")
    if not plus or form not in FORMATS:
        raise InvalidTarget(f"must be a format ({', '.join(FORMATS)}), + and an https:// address")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidTarget("its address cannot be read") from None
    schemes = ("https", "http") if allow_http else ("https",)
    if parts.scheme not in schemes or not host:
        hint = "" if allow_http else "; http:// needs WEBHOOK_PRIVATE_ADDRESSES=yes"
        raise InvalidTarget(f"its address must start with https://{hint}")
    if parts.fragment or len(url) > URL_LIMIT_CHARACTERS or not _is_plain(url):
        raise InvalidTarget(
            "its address must not have a fragment, blanks or control characters, nor exceed"
            f" {URL_LIMIT_CHARACTERS} characters"
        )
    if not url.isascii() or _looks_numeric(host):
        raise InvalidTarget(
            "the host in its address must be a name in ASCII (`xn--` for other letters), or an IP"
            " address in its usual form"
        )
    shown = host if port is None else f"{host}:{port}"
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    topic = ""
    if form == "ntfy":
        url, topic = topic_of(url)
        if not _TOPIC.fullmatch(topic):
            raise InvalidTarget(
                "an ntfy address must end in a topic, such as https://ntfy.sh/topic"
            )
    return Target(f"{form}-{number}", _format(form), shown, key, url, topic)


def _format(name: str) -> Format:
    return next(one for one in FORMATS if one == name)


def _looks_numeric(host: str) -> bool:
    """Return whether a host that is no valid IP address may be taken for one, such as 127.1."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".").rpartition(".")[2].isdigit()
    return False


def _is_plain(url: str) -> bool:
    return url.isprintable() and " " not in url
