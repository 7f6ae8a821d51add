"""The relay's part: Latchkey with a real OpenClaw gateway behind it, and its dashboard."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import aiohttp

from shared.upstream import AUTH_MODE
from tools.interop.cases import Row, tell
from tools.interop.cli.program import package, version_of
from tools.interop.doctor.gateway import TOKEN_AUTH, real_gateway
from tools.interop.facts import Unexpected
from tools.interop.latchkey import running
from tools.interop.plan import Plan, Report
from tools.interop.relay.cases import RELAYED
from tools.interop.relay.story import ORIGIN, SECRET, RelayStory, examined, right_settings
from tools.interop.ui.browser import browsing
from tools.interop.ui.part import NO_CHROMIUM
from tools.support.chromium import find_chromium

if TYPE_CHECKING:
    from pathlib import Path

    from tools.interop.wiretap import Heard

PROTOCOL: Final = 4
_NOT_YET: Final = "http://127.0.0.1:1"
"""Stands for the dashboard's origin until it is known."""
_MIX: Final = "a token of its own beside"
_OTHER_MODE: Final = "takes a token instead"


async def relay_part(plan: Plan) -> Report:
    """Run every case, if there is a browser. Raises RunFailed or Unexpected."""
    version = version_of(package(PROTOCOL))
    rows = [
        Row("relay", version, "upstream", case.name, case.expected, rounds=plan.rounds)
        for case in RELAYED
    ]
    mode = Row("relay", version, "upstream", _OTHER_MODE, (AUTH_MODE,), rounds=1)
    mix = Row("relay", version, "upstream", _MIX, ("does not start",), rounds=1)
    chromium = find_chromium()
    if chromium is None:
        for row in rows:
            row.skipped = NO_CHROMIUM
    else:
        for number in range(plan.rounds):
            await _told(plan.data / f"relay-{number}", chromium, rows)
    mode.seen.append(tuple(await _with_a_token_instead(plan.data / "relay-mode")))
    mix.seen.append((await _with_a_token_beside(plan.data / "relay-mix"),))
    return Report([*rows, mode, mix])


async def _told(directory: Path, chromium: str, rows: list[Row]) -> None:
    heard: list[Heard] = []  # the upstream's own frames are not held against our schema
    settings = right_settings(_NOT_YET)
    async with (
        real_gateway(PROTOCOL, directory / "upstream", settings) as upstream,
        running(
            directory / "latchkey",
            heard,
            {
                "UPSTREAM_URL": upstream.ws_url,
                "UPSTREAM_SECRET": SECRET,
                "GATEWAY_ALLOWED_ORIGINS": ORIGIN,
                "GATEWAY_PUBLIC_URL": ORIGIN,
            },
        ) as latchkey,
        browsing(chromium) as browser,
        AsyncExitStack() as ending,
    ):
        story = RelayStory(latchkey, upstream, browser, heard, ending)
        for row, case in zip(rows, RELAYED, strict=True):
            await tell(row, case, story)


async def _with_a_token_instead(home: Path) -> list[str]:
    """Examine a gateway that was never set up for Latchkey."""
    async with (
        real_gateway(PROTOCOL, home, {"auth": TOKEN_AUTH, "trustedProxies": ["127.0.0.1"]}) as one,
        aiohttp.ClientSession() as http,
    ):
        return await examined(one.ws_url, http)


async def _with_a_token_beside(home: Path) -> str:
    """Start a gateway whose own token was left in its configuration."""
    settings = right_settings(_NOT_YET)
    settings["auth"]["token"] = TOKEN_AUTH["token"]
    try:
        async with real_gateway(PROTOCOL, home, settings):
            return "starts"
    except Unexpected:
        return "does not start"
