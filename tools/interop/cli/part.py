"""The command line's part: both versions, each as a local and as a remote client.

A local client runs where the gateways trust clients of their own machine, a remote one where they
pair all. `clear` removes every device there, so only one version at a time uses each.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tools.interop.cases import Row, run_case
from tools.interop.cli.cases import LOCAL_3, LOCAL_4, REMOTE_3, REMOTE_4, Cases
from tools.interop.cli.program import OpenClaw, package, version_of
from tools.interop.cli.scenario import CliScenario
from tools.interop.latchkey import running
from tools.interop.plan import Plan, Report

if TYPE_CHECKING:
    from pathlib import Path

    from tools.interop.latchkey import Latchkey

TRUSTING: Final = {"GATEWAY_LOCAL_CLIENTS": "trust"}


@dataclass(frozen=True, slots=True)
class Place:
    """One version of the command line, and its location."""

    protocol: int
    remote: bool
    cases: Cases

    def rows(self, rounds: int) -> list[Row]:
        """Return a row per case."""
        version = version_of(package(self.protocol))
        kind = "remote" if self.remote else "local"
        return [
            Row("openclaw devices", version, kind, case.name, case.expected, rounds=rounds)
            for case in self.cases
        ]


# The cases of a pair run at the same time.
_PAIRS: Final = (
    (Place(4, remote=True, cases=REMOTE_4), Place(3, remote=False, cases=LOCAL_3)),
    (Place(3, remote=True, cases=REMOTE_3), Place(4, remote=False, cases=LOCAL_4)),
)


async def cli_part(plan: Plan) -> Report:
    """Run every case of both versions, local and remote. Raises RunFailed."""
    rows = {place: place.rows(plan.rounds) for pair in _PAIRS for place in pair}
    async with (
        running(plan.data / "pairing", plan.heard) as pairing,
        running(plan.data / "trusting", plan.heard, TRUSTING) as trusting,
    ):
        for number in range(plan.rounds):
            for pair in _PAIRS:
                stories = (
                    _run_cases(
                        place,
                        pairing if place.remote else trusting,
                        plan.data / f"home-{place.protocol}-{place.remote}-{number}",
                        rows[place],
                    )
                    for place in pair
                )
                await asyncio.gather(*stories)
    return Report([row for place in rows.values() for row in place])


async def _run_cases(place: Place, latchkey: Latchkey, home: Path, rows: list[Row]) -> None:
    openclaw = OpenClaw(place.protocol, home, latchkey, remote=place.remote)
    async with AsyncExitStack() as ending:
        scenario = CliScenario(latchkey, openclaw, ending)
        for row, case in zip(rows, place.cases, strict=True):
            await run_case(row, case, scenario)
        await scenario.leave()
