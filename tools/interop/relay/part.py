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
    from tools.interop.facts import Facts
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
"""Groups of cases that run one after the other against the same set-up."""
_UPSTREAM: Final = "upstream"
"""The group of cases about the upstream and its configuration, with a set-up of its own."""
GROUP_NAMES: Final = (_UPSTREAM, *(name for name, _, _ in _GROUPS))
_MIX: Final = "a token of its own beside"
_OTHER_MODE: Final = "takes a token instead"

_Group = tuple[type[Any], tuple["Case[Any]", ...], list[Row]]
"""A group's scenario, cases and rows."""


async def relay_part(plan: Plan) -> Report:
    """Run every case, if there is a browser. Raises RunFailed or Unexpected."""
    version = version_of(package(PROTOCOL))
    chosen = plan.relay_groups or GROUP_NAMES

    def row(kind: str, name: str, expected: Facts, rounds: int = plan.rounds) -> Row:
        return Row("relay", version, kind, name, expected, rounds=rounds)

    rows: list[Row] = []
    alone: list[Row] = []
    """Rows of gateways that run once, by themselves."""
    if _UPSTREAM in chosen:
        rows = [row(_UPSTREAM, case.name, case.expected) for case in RELAYED]
        alone = [
            row(_UPSTREAM, _OTHER_MODE, (AUTH_MODE,), 1),
            row(_UPSTREAM, _MIX, ("does not start",), 1),
        ]
    groups: list[_Group] = [
        (scenario, cases, [row(kind, case.name, case.expected) for case in cases])
        for kind, scenario, cases in _GROUPS
        if kind in chosen
    ]
    of_groups = [item for _, _, own in groups for item in own]
    chromium = find_chromium()
    if chromium is None:
        for item in (*rows, *of_groups):
            item.skipped = NO_CHROMIUM
    else:
        for number in range(plan.rounds):
            if rows:
                await _run_rows(plan.data / f"relay-{number}", chromium, rows)
            if groups:
                picture = plan.chat_picture if number == 0 else None
                await _run_groups(plan.data / f"relayed-{number}", chromium, groups, picture)
    if alone:
        mode, mix = alone
        mode.seen.append(tuple(await _with_a_token_instead(plan.data / "relay-mode")))
        mix.seen.append((await _with_a_token_beside(plan.data / "relay-mix"),))
    return Report([*rows, *of_groups, *alone])


async def _run_groups(
    directory: Path, chromium: str, groups: list[_Group], picture: Path | None
) -> None:
    async with browsing(chromium) as browser, set_up(directory) as setup:
        if picture is not None:
            await _take_picture(setup, browser, picture)
        for scenario_type, cases, rows in groups:
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
