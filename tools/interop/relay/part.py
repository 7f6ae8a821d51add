"""The relay's part: Latchkey with a real OpenClaw gateway behind it, and its dashboard."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from shared.upstream import AUTH_MODE
from tools.interop.cases import Row, run_case
from tools.interop.cli.program import package, version_of
from tools.interop.doctor.gateway import TOKEN_AUTH, real_gateway
from tools.interop.facts import Unexpected
from tools.interop.latchkey import running
from tools.interop.plan import Plan, Report
from tools.interop.relay import attacks, chat, command_line, limits, nodes, outages, strangers
from tools.interop.relay.attacks import AttackScenario
from tools.interop.relay.cases import RELAYED
from tools.interop.relay.chat import ChatScenario
from tools.interop.relay.command_line import CommandLineScenario
from tools.interop.relay.limits import LimitScenario
from tools.interop.relay.nodes import NodeScenario
from tools.interop.relay.outages import OutageScenario
from tools.interop.relay.scenario import ORIGIN, SECRET, RelayScenario, examined, right_settings
from tools.interop.relay.setup import set_up
from tools.interop.relay.strangers import StrangerScenario
from tools.interop.ui.browser import browsing
from tools.interop.ui.part import NO_CHROMIUM
from tools.support.chromium import find_chromium

if TYPE_CHECKING:
    from pathlib import Path

    from tools.interop.cases import Case
    from tools.interop.relay.setup import Setup
    from tools.interop.ui.browser import Browser
    from tools.interop.wiretap import Heard

PROTOCOL: Final = 4
_NOT_YET: Final = "http://127.0.0.1:1"
"""Stands for the dashboard's origin until it is known."""
_GROUPS: Final[tuple[tuple[str, type[Any], tuple[Case[Any], ...]], ...]] = (
    ("chat", ChatScenario, chat.CASES),
    ("nodes", NodeScenario, nodes.CASES),
    ("attacks", AttackScenario, attacks.CASES),
    ("cli", CommandLineScenario, command_line.CASES),
    ("limits", LimitScenario, limits.CASES),
    ("crowds", StrangerScenario, strangers.CASES),
    ("outages", OutageScenario, outages.CASES),
)
"""Stories that are told one after the other: what they are about, and their cases."""
_MIX: Final = "a token of its own beside"
_OTHER_MODE: Final = "takes a token instead"


async def relay_part(plan: Plan) -> Report:
    """Run every case, if there is a browser. Raises RunFailed or Unexpected."""
    version = version_of(package(PROTOCOL))
    rows = [
        Row("relay", version, "upstream", case.name, case.expected, rounds=plan.rounds)
        for case in RELAYED
    ]
    groups = [
        [
            Row("relay", version, kind, case.name, case.expected, rounds=plan.rounds)
            for case in cases
        ]
        for kind, _, cases in _GROUPS
    ]
    mode = Row("relay", version, "upstream", _OTHER_MODE, (AUTH_MODE,), rounds=1)
    mix = Row("relay", version, "upstream", _MIX, ("does not start",), rounds=1)
    chromium = find_chromium()
    if chromium is None:
        for row in (*rows, *(row for group in groups for row in group)):
            row.skipped = NO_CHROMIUM
    else:
        for number in range(plan.rounds):
            await _run_rows(plan.data / f"relay-{number}", chromium, rows)
            async with (
                browsing(chromium) as browser,
                set_up(plan.data / f"relayed-{number}") as setup,
            ):
                if plan.chat_picture is not None and number == 0:
                    await _take_picture(setup, browser, plan.chat_picture)
                await _run_groups(setup, browser, groups)
    mode.seen.append(tuple(await _with_a_token_instead(plan.data / "relay-mode")))
    mix.seen.append((await _with_a_token_beside(plan.data / "relay-mix"),))
    return Report([*rows, *(row for group in groups for row in group), mode, mix])


async def _run_groups(setup: Setup, browser: Browser, groups: list[list[Row]]) -> None:
    for rows, (_, scenario_type, cases) in zip(groups, _GROUPS, strict=True):
        async with AsyncExitStack() as ending:
            scenario = scenario_type(replace(setup, ending=ending), browser)
            for row, case in zip(rows, cases, strict=True):
                await run_case(row, case, scenario)
        await setup.clear()


async def _take_picture(setup: Setup, browser: Browser, path: Path) -> None:
    async with AsyncExitStack() as ending:
        await ChatScenario(replace(setup, ending=ending), browser).picture(path)
    await setup.clear()


async def _run_rows(directory: Path, chromium: str, rows: list[Row]) -> None:
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
        scenario = RelayScenario(latchkey, upstream, browser, heard, ending)
        for row, case in zip(rows, RELAYED, strict=True):
            await run_case(row, case, scenario)


async def _with_a_token_instead(home: Path) -> list[str]:
    """Examine a gateway that was never set up for Latchkey."""
    async with (
        real_gateway(
            PROTOCOL, home, {"auth": TOKEN_AUTH, "trustedProxies": ["127.0.0.1"]}
        ) as gateway,
        aiohttp.ClientSession() as http,
    ):
        return await examined(gateway.ws_url, http)


async def _with_a_token_beside(home: Path) -> str:
    """Start a gateway whose own token was left in its configuration."""
    settings = right_settings(_NOT_YET)
    settings["auth"]["token"] = TOKEN_AUTH["token"]
    try:
        async with real_gateway(PROTOCOL, home, settings):
            return "starts"
    except Unexpected:
        return "does not start"
