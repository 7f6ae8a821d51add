"""Runs all cases with OpenClaw's clients and prints the results."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tools.interop.cli.part import cli_part
from tools.interop.doctor.part import doctor_part
from tools.interop.driver import NODE
from tools.interop.facts import Unexpected
from tools.interop.held.part import held_part
from tools.interop.latchkey import RunFailed
from tools.interop.migration.part import migration_part
from tools.interop.plan import Part, Plan
from tools.interop.reference.part import reference_part
from tools.interop.relay.part import GROUP_NAMES, relay_part
from tools.interop.schema import schema_rows
from tools.interop.setup.part import setup_part
from tools.interop.table import table
from tools.interop.ui.part import ui_part

ROUNDS: Final = 3
INTERRUPTED: Final = 130
PARTS: Final[dict[str, Part]] = {
    "reference": reference_part,
    "cli": cli_part,
    "ui": ui_part,
    "doctor": doctor_part,
    "migration": migration_part,
    "held": held_part,
    "relay": relay_part,
    "setup": setup_part,
}
_GROUP_PREFIX: Final = "relay."
"""With the name of a group: a choice of --only that runs this group of the relay's cases."""


def main() -> int:
    """Run the parts and return the exit status."""
    parser = argparse.ArgumentParser(prog="make interop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each case is run")
    groups = tuple(_GROUP_PREFIX + name for name in GROUP_NAMES)
    parser.add_argument(
        "--only",
        action="append",
        choices=(*PARTS, *groups),
        help="run only this part, or this group of a part; may be repeated",
    )
    parser.add_argument("--picture", type=Path, help="write a screenshot of the dashboard (PNG)")
    parser.add_argument("--chat-picture", type=Path, help="write one of a chat (PNG)")
    given = parser.parse_args()
    if not NODE.exists():
        print(
            "There is no Node.js in tools/interop/node_modules: `make interop` installs one there, "
            "on Linux and macOS, x64 and ARM.",
            file=sys.stderr,
        )
        return 1
    data = Path(tempfile.mkdtemp(prefix="latchkey-interop-"))
    good, keep = False, False
    try:
        picture, chat_picture = (
            picture and picture.absolute() for picture in (given.picture, given.chat_picture)
        )
        names, groups_to_run = split(given.only or list(PARTS))
        plan = Plan(given.rounds, data, [], picture, chat_picture, groups_to_run)
        good = asyncio.run(_run(plan, names))
        keep = not good
    except RunFailed as error:
        print(f"Latchkey did not start.\n{error}", file=sys.stderr)
        keep = True
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if keep:
            print(f"Latchkey's logs are in {data}.", file=sys.stderr)
        else:
            shutil.rmtree(data)
    return 0 if good else 1


def split(only: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the parts to run and, unless the whole relay is one of them, its chosen groups."""
    names = list(dict.fromkeys(name.partition(".")[0] for name in only))
    chosen = () if "relay" in only else (n.removeprefix(_GROUP_PREFIX) for n in only if "." in n)
    return names, tuple(dict.fromkeys(chosen))


async def _run(plan: Plan, names: list[str]) -> bool:
    """Run all cases of these parts, print the table, return whether all are as expected."""
    begin = time.monotonic()
    rows, notes, broken = [], [], False
    for name in names:
        if sys.stderr.isatty():
            print(f"{name} ...", file=sys.stderr)
        try:
            report = await PARTS[name](plan)
        except Unexpected as error:
            print(f"The part {name} failed: {error}.", file=sys.stderr)
            broken = True
            continue
        rows += report.rows
        notes += report.notes
    rows += schema_rows(plan.heard)
    run_rows = [row for row in rows if not row.skipped]
    right, total = sum(row.right for row in run_rows), sum(row.rounds for row in run_rows)
    print(table(row.cells() for row in rows))
    print(f"\n{right} of {total} as expected, {time.monotonic() - begin:.0f} s")
    print(f"{len(plan.heard)} frames held against the schema")
    for note in dict.fromkeys(notes):
        print(note)
    for reason in dict.fromkeys(row.skipped for row in rows if row.skipped):
        print(f"SKIPPED: {reason}", file=sys.stderr)
    return right == total and not broken


if __name__ == "__main__":
    sys.exit(main())
