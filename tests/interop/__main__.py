"""Tell the story of a device with the reference client, and print what came of it."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import aiohttp

from tests.interop.cases import CASES
from tests.interop.latchkey import Latchkey, RunFailed, running
from tests.interop.reference import NODE, Driver, Unexpected, reference_client
from tests.interop.roles import ROLES
from tests.interop.story import Story
from tests.interop.table import Row, table

ROUNDS: Final = 3
INTERRUPTED: Final = 130


def main() -> int:
    """Run it all; return the exit status."""
    parser = argparse.ArgumentParser(prog="make interop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each case is told")
    rounds: int = parser.parse_args().rounds
    if not NODE.exists():
        print(
            "There is no Node.js in tests/interop/node_modules: `make interop` installs one there, "
            "on Linux and macOS, x64 and ARM.",
            file=sys.stderr,
        )
        return 1
    data = Path(tempfile.mkdtemp(prefix="latchkey-interop-"))
    good, keep = False, False
    try:
        good = asyncio.run(_run(data, rounds))
        keep = not good
    except RunFailed as error:
        print(f"Latchkey does not run.\n{error}", file=sys.stderr)
        keep = True
    except Unexpected as error:
        print(f"The reference client does not run: {error}.", file=sys.stderr)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if keep:
            print(f"What Latchkey logged is in {data / 'logs'}.", file=sys.stderr)
        else:
            shutil.rmtree(data)
    return 0 if good else 1


async def _run(data: Path, rounds: int) -> bool:
    """Tell every case `rounds` times in every role, print the table, return whether all is well."""
    begin = time.monotonic()
    rows = [Row(role.name, case) for role in ROLES for case in CASES]
    closes: list[float] = []
    async with running(data) as latchkey, reference_client() as driver:
        for number in range(rounds):
            if sys.stderr.isatty():
                print(f"round {number + 1} of {rounds} ...", file=sys.stderr)
            closes += await _round(latchkey, driver, rows)
    cells = [(driver.name, driver.version, *row.cells(rounds)) for row in rows]
    right, total = sum(row.right for row in rows), len(rows) * rounds
    print(table(cells))
    print(
        f"\n{right} of {total} as expected, Node.js {driver.node}, {time.monotonic() - begin:.0f} s; "
        f"live connections were closed within {max(closes, default=0) * 1000:.0f} ms of the call"
    )
    return right == total


async def _round(latchkey: Latchkey, driver: Driver, rows: list[Row]) -> list[float]:
    """Tell every case, of a new device in each role at the same time."""
    stories = {role.name: Story(latchkey, driver, await driver.device(), role) for role in ROLES}
    for case in CASES:
        if case.before is not None:
            case.before(latchkey)
        told = [row for row in rows if row.case is case]
        await asyncio.gather(*(_tell(row, stories[row.role]) for row in told))
    return [seconds for story in stories.values() for seconds in story.visits.close_seconds]


async def _tell(row: Row, story: Story) -> None:
    try:
        facts = await row.case.tell(story)
    except (Unexpected, aiohttp.ClientError, LookupError, TimeoutError) as error:
        facts = (f"{type(error).__name__}: {error}",)
    row.seen.append(facts)


if __name__ == "__main__":
    sys.exit(main())
