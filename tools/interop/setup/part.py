"""Setup codes: the command line's nodes, each with a home of its own, and the dashboard's phone."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from shared.protocol.signing import encode_base64
from tools.interop.cases import Case, Row, run_case
from tools.interop.cli.part import TRUSTING
from tools.interop.cli.program import CURRENT_PROTOCOL, OpenClaw, package, version_of
from tools.interop.facts import Facts, Unexpected
from tools.interop.latchkey import running
from tools.interop.plan import Plan, Report
from tools.interop.reference.client import reference_client
from tools.interop.setup.page import PAGE_CASES, PageScenario
from tools.interop.ui.browser import browsing
from tools.interop.ui.part import NO_CHROMIUM
from tools.support.chromium import find_chromium

if TYPE_CHECKING:
    from pathlib import Path

    from tools.interop.latchkey import Latchkey

CONNECT_SECONDS: Final = 90.0
"""Time for a node host to start and connect; its first start prepares a database."""
REASONS: Final = (
    "Gateway join code was not found or has expired.",
    "AUTH_BOOTSTRAP_TOKEN_INVALID",
    "setup code invalid, expired, revoked, or already used",
)
"""What a node says when it ends; the first that occurs is reported."""
CONNECTED: Final = b"node host gateway connected"


@dataclass
class Scenario:
    """One round: an operator's command line, and nodes with homes of their own."""

    latchkey: Latchkey
    directory: Path
    join_url: str = ""
    code: str = ""
    nodes: int = 0

    def home(self) -> OpenClaw:
        """Return a command line with a new home."""
        self.nodes += 1
        return OpenClaw(
            CURRENT_PROTOCOL, self.directory / f"home-{self.nodes}", self.latchkey, remote=False
        )

    async def paired(self) -> list[dict[str, Any]]:
        """Return the paired devices."""
        _status, body = await self.latchkey.call("GET", "/v1/devices")
        found: list[dict[str, Any]] = body["devices"]
        return found


async def _node(openclaw: OpenClaw, *command: str) -> str:
    """Run a node until it is connected, or return what it says when it ends."""
    process = await openclaw.start(*command)
    said = b""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            assert process.stdout is not None
            while piece := await process.stdout.read(4096):
                said += piece
                if CONNECTED in said:
                    return "connected"
            await process.wait()
    except TimeoutError:
        raise Unexpected(f"the node neither connected nor ended: {said[-200:]!r}") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    reason = next((one for one in REASONS if one in said.decode(errors="replace")), "unknown")
    return f"exit {process.returncode}: {reason}"


async def _join(scenario: Scenario) -> Facts:
    created = (await scenario.home()("devices", "join-code")).json
    scenario.join_url = created["joinUrl"]
    outcome = await _node(scenario.home(), "connect", scenario.join_url, "--display-name", "Build")
    (node,) = await scenario.paired()
    return outcome, f"roles {','.join(node['roles'])}", f"approved via {node['approvedVia']}"


async def _join_again(scenario: Scenario) -> Facts:
    return (await _node(scenario.home(), "connect", scenario.join_url),)


async def _run_pair(scenario: Scenario) -> Facts:
    created = (await scenario.home()("devices", "join-code")).json
    async with aiohttp.ClientSession() as http, http.get(created["joinUrl"]) as reply:
        scenario.code = f"oc-pair://{encode_base64(await reply.read())}"
    node = scenario.home()
    first = await _node(node, "node", "run", "--pair", scenario.code)
    again = await _node(node, "node", "run")
    return f"with the code: {first}", f"without it: {again}"


async def _other_home(scenario: Scenario) -> Facts:
    outcome = await _node(scenario.home(), "node", "run", "--pair", scenario.code)
    refused = outcome.startswith("exit 1: ") and not outcome.endswith(("unknown", REASONS[0]))
    return ("exit 1, code refused" if refused else outcome,)


CASES: Final = (
    Case("join-code, then connect", _join, ("connected", "roles node", "approved via bootstrap")),
    Case("the same join URL again", _join_again, (f"exit 1: {REASONS[0]}",)),
    Case(
        "node run --pair, then node run",
        _run_pair,
        ("with the code: connected", "without it: connected"),
    ),
    Case("the same code on another machine", _other_home, ("exit 1, code refused",)),
)


async def setup_part(plan: Plan) -> Report:
    """Run every case. Raises RunFailed or Unexpected."""
    version = version_of(package(CURRENT_PROTOCOL))
    rows = [
        Row("openclaw", version, "setup code", case.name, case.expected, rounds=plan.rounds)
        for case in CASES
    ]
    for number in range(plan.rounds):
        async with running(plan.data / f"setup-{number}", plan.heard, TRUSTING) as latchkey:
            directory = plan.data / f"setup-homes-{number}"
            directory.mkdir()
            scenario = Scenario(latchkey, directory)
            for row, case in zip(rows, CASES, strict=True):
                await run_case(row, case, scenario)
    shown = await _page_part(plan)
    return Report([*rows, *shown.rows], shown.notes)


async def _page_part(plan: Plan) -> Report:
    """Run the cases with the dashboard if there is a browser. Raises RunFailed or Unexpected."""
    version = version_of(package(CURRENT_PROTOCOL))
    rows = [
        Row("Control UI", version, "setup code", case.name, case.expected, rounds=plan.rounds)
        for case in PAGE_CASES
    ]
    chromium = find_chromium()
    if chromium is None:
        for row in rows:
            row.skipped = NO_CHROMIUM
        return Report(rows)
    dashboard = {"CONTROL_UI_DIR": str(package(CURRENT_PROTOCOL) / "dist" / "control-ui")}
    async with (
        running(plan.data / "setup-page", plan.heard, dashboard) as latchkey,
        reference_client() as reference,
        browsing(chromium) as browser,
    ):
        site = latchkey.gateway.replace("ws://", "http://")
        for _ in range(plan.rounds):
            async with browser.profile(f"{site}/#token={latchkey.gateway_token}") as page:
                scenario = PageScenario(latchkey, page, reference)
                try:
                    await scenario.approved()
                    for row, case in zip(rows, PAGE_CASES, strict=True):
                        await run_case(row, case, scenario)
                finally:
                    await scenario.stop()
        return Report(rows, [browser.name, f"{reference.name} {reference.version}"])
