"""A round: a house and a crowd of its own, and each fault in each of its cases."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from tests.drills.case import drill
from tests.drills.crowd import Crowd
from tests.drills.desk import Desk
from tests.drills.grants import Grants
from tests.drills.house import House
from tests.drills.observed import Observed
from tests.drills.settings import ROUND_SECONDS
from tests.drills.story import story
from tests.drills.street import Street

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.drills.table import Row


async def play_round(number: int, rows: Sequence[Row], directory: Path) -> None:
    """Drill every fault once; its verdicts go into the rows, the stories of violations are told."""
    grants = Grants()
    async with asyncio.timeout(ROUND_SECONDS), House(directory) as house, Desk(house) as desk:
        nothing = Observed(fault="", case="", round=number, grants=grants)
        street = Street(house, desk, grants, nothing)
        crowd = Crowd(street)
        try:
            await crowd.enter()
            for row in rows:
                for case in row.fault.cases:
                    began = time.monotonic()
                    seen, verdict = await drill(street, crowd, row.fault, case)
                    row.verdicts.append(verdict)
                    for one in verdict.violations:
                        print(f"\n{story(seen, one)}\n")
                    took = time.monotonic() - began
                    how = "VIOLATED" if verdict.violations else "held"
                    line = f"round {number}: {row.fault.name} {case} ({took:.0f} s): {how}"
                    print(line, file=sys.stderr)
        finally:
            await crowd.leave()
