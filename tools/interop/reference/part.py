"""The reference client's part: in each round, a new device per role runs through all cases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tools.interop.cases import Row, run_case
from tools.interop.latchkey import running
from tools.interop.plan import Plan, Report
from tools.interop.reference.cases import CASES
from tools.interop.reference.client import reference_client
from tools.interop.reference.roles import ROLES
from tools.interop.reference.scenario import Scenario

if TYPE_CHECKING:
    from tools.interop.latchkey import Latchkey
    from tools.interop.reference.client import Reference

Rows = dict[tuple[str, str], Row]


async def reference_part(plan: Plan) -> Report:
    """Run every case in every role. Raises RunFailed or Unexpected."""
    closes: list[float] = []
    async with (
        running(plan.data / "reference", plan.heard) as latchkey,
        reference_client() as client,
    ):
        rows: Rows = {
            (role.name, case.name): Row(
                *(client.name, client.version, role.name, case.name),
                case.expected,
                rounds=plan.rounds,
            )
            for role in ROLES
            for case in CASES
        }
        for _ in range(plan.rounds):
            closes += await _round(latchkey, client, rows)
    took = max(closes, default=0) * 1000
    note = f"live connections of the reference client were closed within {took:.0f} ms of the call"
    return Report(list(rows.values()), [f"Node.js {client.node}", note])


async def _round(latchkey: Latchkey, client: Reference, rows: Rows) -> list[float]:
    """Run every case with a new device per role, all roles in parallel."""
    stories = {role.name: Scenario(latchkey, client, await client.device(), role) for role in ROLES}
    for case in CASES:
        if case.before is not None:
            case.before(latchkey)
        await asyncio.gather(
            *(run_case(rows[name, case.name], case, scenario) for name, scenario in stories.items())
        )
    return [seconds for scenario in stories.values() for seconds in scenario.visits.close_seconds]
