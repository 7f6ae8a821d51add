"""Settings of notifications. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from services.approval.notifications.addresses import is_public
from services.approval.notifications.signing import (
    KEY_MAX_BYTES,
    KEY_MIN_BYTES,
    SigningKeys,
    read_key,
)
from services.approval.notifications.targets import (
    TARGETS_LIMIT,
    InvalidTarget,
    Target,
    read_target,
)
from shared.settings.declarations import Choice, Setting

if TYPE_CHECKING:
    from shared.settings.environment import SettingsReader

WEBHOOK_TARGETS: Final = Setting(
    "WEBHOOK_TARGETS",
    "Comma list of the addresses to notify, each as `FORMAT+https://…` with the format `json`,"
    " `slack`, `discord` or `ntfy`; at most 16. Write a comma in an address as `%2C`. Only name and"
    " host of a target are ever shown.",
    secret=True,
)
WEBHOOK_SECRETS: Final = Setting(
    "WEBHOOK_SECRETS",
    "Comma list of secrets that sign notifications, each `whsec_` followed by 24 to 64 random bytes"
    " in base64. All sign, so that receivers can change to a new one. Required with a `json`"
    " target.",
    secret=True,
)
WEBHOOK_PRIVATE_ADDRESSES: Final = Choice(
    "WEBHOOK_PRIVATE_ADDRESSES",
    "Whether targets may use `http://` and private addresses: loopback, link-local (such as the"
    " metadata service of a cloud), and those of private networks.",
    "no",
    ("no", "yes"),
)
WEBHOOK_SETTINGS: Final = (WEBHOOK_TARGETS, WEBHOOK_SECRETS, WEBHOOK_PRIVATE_ADDRESSES)
_GENERATE: Final = 'the output of `echo "whsec_$(openssl rand -base64 32)"`'


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where and how to send notifications."""

    targets: tuple[Target, ...] = ()
    keys: SigningKeys = field(default_factory=SigningKeys)
    private_addresses: bool = False


def read_webhooks(reader: SettingsReader) -> WebhookSettings:
    """Read the settings of notifications; collect problems, which contain no address or secret."""
    private = reader.choice(WEBHOOK_PRIVATE_ADDRESSES) == "yes"
    targets = _read_targets(reader, private=private)
    keys = []
    for number, secret in enumerate(_listed(reader, WEBHOOK_SECRETS), 1):
        key = read_key(secret)
        if key is None:
            reader.problems.append(
                f"{WEBHOOK_SECRETS.name}: secret {number} must be whsec_ followed by"
                f" {KEY_MIN_BYTES} to {KEY_MAX_BYTES} bytes in base64, such as {_GENERATE}"
            )
        else:
            keys.append(key)
    if any(one.form == "json" for one in targets) and not reader.text(WEBHOOK_SECRETS):
        reader.problems.append(
            f"{WEBHOOK_TARGETS.name} has a json target, so {WEBHOOK_SECRETS.name} is required:"
            f" use {_GENERATE}"
        )
    return WebhookSettings(targets, SigningKeys(keys), private)


def _read_targets(reader: SettingsReader, *, private: bool) -> tuple[Target, ...]:
    targets: dict[str, Target] = {}
    counts: Counter[str] = Counter()
    name = WEBHOOK_TARGETS.name
    listed = _listed(reader, WEBHOOK_TARGETS)
    for number, text in enumerate(listed, 1):
        form = text.partition("+")[0]
        counts[form] += 1
        try:
            target = read_target(text, counts[form], allow_http=private)
        except InvalidTarget as error:
            reader.problems.append(f"{name}: target {number}: {error}")
            continue
        if not private and _is_private(target.url):
            reader.problems.append(
                f"{name}: target {number}: its address is private, which needs"
                f" {WEBHOOK_PRIVATE_ADDRESSES.name}=yes"
            )
        if target.key in targets:
            reader.problems.append(f"{name}: target {number} is listed twice")
        targets[target.key] = target
    if len(listed) > TARGETS_LIMIT:
        reader.problems.append(f"{name}: has {len(listed)} targets, at most {TARGETS_LIMIT}")
    return tuple(targets.values())


def _listed(reader: SettingsReader, setting: Setting) -> list[str]:
    return [value for part in reader.text(setting).split(",") if (value := part.strip())]


def _is_private(url: str) -> bool:
    """Return whether the host is written as an address that is not public."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return not is_public(host)
