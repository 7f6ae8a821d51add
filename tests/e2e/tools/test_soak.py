"""The soak of the load tool reports what is left over, and fails if anything is."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp

from tests.e2e.tools.test_load import at, load, run_load, tokens
from tools.support.metrics import metric
from tools.support.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from tools.support.processes.stack import Stack

DEVICES = 2
ROLES = ("gateway", "approval")
SECONDS = 30.0
ADMITTED = 'latchkey_gateway_handshakes_total{outcome="admitted"}'


async def test_nothing_is_left_over(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    words = ["--seconds", "1", "--devices", "4", "--json", str(file)]
    result = await run_load("soak", *words, *at(stack), env=tokens(stack))
    assert result.status == 0, result
    assert "left over: 0 descriptors, 0 tasks" in result.text
    report = json.loads(file.read_text())
    assert [phase["name"] for phase in report["phases"]] == ["warm-up", "soak"]
    assert {(leftover["role"], leftover["what"]) for leftover in report["leftOver"]} == {
        *((role, "tasks") for role in ROLES),
        *((role, "descriptors") for role in (*ROLES, "redis")),
    }
    assert all(leftover["before"] > 0 for leftover in report["leftOver"])


async def test_what_is_left_over_fails_the_run(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    words = ["--seconds", "4", "--warm-up", "0", "--devices", str(DEVICES), "--json", str(file)]
    kept_open = aiohttp.TCPConnector(keepalive_timeout=2 * SECONDS)
    paired = await admitted(stack) + DEVICES
    async with (
        load("soak", *words, *at(stack), env=tokens(stack)) as started,
        aiohttp.ClientSession(connector=kept_open) as staying,
    ):
        async with asyncio.timeout(SECONDS):  # until the load has begun
            while await admitted(stack) <= paired:  # noqa: ASYNC110 (asked for)
                await asyncio.sleep(POLL_SECONDS)
        async with staying.get(f"{stack.approvals[0].url}/livez") as answer:
            assert answer.ok
        result = await started.result()
    assert result.status == 1, result
    report = json.loads(file.read_text())
    leftovers = {
        (leftover["role"], leftover["what"]): leftover["left"] for leftover in report["leftOver"]
    }
    assert leftovers["approval", "tasks"] == 1, result
    # Without a warm-up, approval may also have opened another connection to Redis.
    assert leftovers["approval", "descriptors"] >= 1, result
    assert report["findings"] == [
        f"{left} {what} of {role} are left over" for (role, what), left in leftovers.items() if left
    ]


async def admitted(stack: Stack) -> float:
    """Return the number of connections that the gateway has admitted."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
        http.get(f"{stack.gateways[0].url}/metrics") as answer,
    ):
        return metric(await answer.text(), ADMITTED) or 0.0
