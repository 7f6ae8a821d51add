"""Setup codes: `devices join-code` and `connect`, and `node run --pair`, with a home per node."""

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
    """Run every case. Raises RunFailed."""
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
    return Report(rows)
