"""Times of expiry as people type them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from services.cli.errors import Misused

EXPIRY_HELP: Final = "After a time such as `12h` or `90d`, or on a day (UTC) such as `2027-01-31`."
_UNITS_MS: Final = {"min": 60_000, "h": 3_600_000, "d": 86_400_000}
_LENGTH: Final = re.compile(r"([1-9][0-9]{0,6}) ?(min|h|d)", re.ASCII)


def expiry_ms(text: str, now_ms: int) -> int:
    """Return when something expires, in ms since 1970; raises Misused."""
    found = _LENGTH.fullmatch(text.strip())
    if found:
        return now_ms + int(found[1]) * _UNITS_MS[found[2]]
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise Misused("no-time", f"{text!r} is not a time of expiry.", EXPIRY_HELP) from None
    at_ms = int(day.timestamp() * 1000)
    if at_ms <= now_ms:
        raise Misused("no-time", f"{text} is not in the future.")
    return at_ms
