"""A round: a stack and load of its own, and every case of every fault."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

from tools.drills.case import drill
from tools.drills.judging.explanation import explain
from tools.drills.judging.judge import is_disturbed
from tools.drills.judging.observed import Observed
from tools.drills.load.context import LoadContext
from tools.drills.load.grants import Grants
from tools.drills.load.load import Load
from tools.drills.load.operator_api import OperatorApi
from tools.drills.stack.machine import watch_loop, watch_redis
from tools.drills.stack.settings import ROUND_SECONDS
from tools.drills.stack.stack import DrillStack

AGAIN_LIMIT: Final = 2
"""How often a case is repeated because the machine stalled."""

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.drills.judging.table import Row


async def run_round(
    number: int, rows: Sequence[Row], directory: Path, *, with_sentinels: bool = False
) -> None:
    """Drill every fault once; add the results to the rows and print the violations.

    Faults behind relayed sessions have a stack of their own.
    """
    for relayed in (False, True):
        chosen = [row for row in rows if row.fault.relayed is relayed]
        if chosen:
            own = _made(directory / ("relayed" if relayed else "plain"))
            await _run_phases(number, chosen, own, with_sentinels=with_sentinels)


async def _run_phases(
    number: int, rows: Sequence[Row], directory: Path, *, with_sentinels: bool
) -> None:
    grants = Grants()
    relayed = rows[0].fault.relayed
    async with (
        asyncio.timeout(ROUND_SECONDS),
        DrillStack(directory, relayed=relayed, with_sentinels=with_sentinels) as stack,
        OperatorApi(stack) as api,
    ):
        nothing = Observed(fault="", case="", round=number, grants=grants)
        context_ = LoadContext(stack, api, grants, nothing)
        load = Load(context_)
        watching = [asyncio.create_task(watch(context_)) for watch in (watch_loop, watch_redis)]
        try:
            await load.enter()
            for row in rows:
                for case in row.fault.cases:
                    await _run_case(context_, load, row, case)
        finally:
            await load.leave()
            for watch in watching:
                watch.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


async def _run_case(context_: LoadContext, load: Load, row: Row, case: str) -> None:
    """Run a case, repeat it if the machine disturbed it, and print the result."""
    for again in range(AGAIN_LIMIT, -1, -1):
        began = time.monotonic()
        seen, verdict = await drill(context_, load, row.fault, case)
        disturbed = verdict.violations and is_disturbed(seen, row.fault, verdict.violations)
        repeat = bool(disturbed and again)
        outcome = "VIOLATED" if verdict.violations else "held"
        if repeat:
            stalled = max(seen.redis_stalled, seen.drill_stalled)
            outcome = f"the machine stalled for {stalled:.1f} s, again"
        else:
            for violation in verdict.violations:
                print(f"\n{explain(seen, violation)}\n", flush=True)
        line = f"round {seen.round}: {row.fault.name} {case}".rstrip()
        print(f"{line} ({time.monotonic() - began:.0f} s): {outcome}", file=sys.stderr)
        if not repeat:
            row.verdicts.append(verdict)
            return
        row.disturbed += 1


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
