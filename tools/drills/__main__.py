"""Drills every fault with real clients behind HAProxy, and prints which promises were kept."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.errors import RunError
from tools.drills.attacks.command import add_options, run_attacks
from tools.drills.faults import ALL, WITH_SENTINELS
from tools.drills.judging import exits
from tools.drills.judging.report import as_json, settings_line
from tools.drills.judging.table import LEGEND, Row, failovers, table, totals
from tools.drills.rounds import run_round
from tools.drills.stack.haproxy import find_haproxy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.drills.fault import Fault


def main() -> int:
    """Run the drills and return the exit status."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often each fault is injected")
    parser.add_argument("--only", action="append", help="only those with this in their name")
    parser.add_argument(
        "--relayed", action="store_true", help="relay the sessions to an upstream in every drill"
    )
    parser.add_argument(
        "--redis", choices=("one", "sentinel"), default="one", help="one server, or with sentinels"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--attacks", action="store_true", help="attacks and storms instead of faults"
    )
    add_options(parser)
    given = parser.parse_args()
    if given.attacks:
        return run_attacks(parser, given)
    missing = [name for name in ("haproxy", "redis-server") if not _found(name)]
    if missing:
        print(
            f"make drill needs {' and '.join(missing)}, on Linux.\n"
            "Install both: apt install haproxy redis-server",
            file=sys.stderr,
        )
        return exits.MISSING
    with_sentinels = given.redis == "sentinel"
    known = WITH_SENTINELS if with_sentinels else ALL
    faults = [
        item for item in known if not given.only or any(word in item.name for word in given.only)
    ]
    if given.relayed:
        faults = [replace(fault, relayed=True) for fault in faults]
    if not faults:
        parser.error(f"no fault matches; available: {'; '.join(f.name for f in known)}")
    return exits.run_logged(
        lambda data: _run(faults, given.rounds, data, given.json, with_sentinels=with_sentinels),
        prefix="latchkey-drill-",
        file=given.json,
    )


def _run(
    faults: Sequence[Fault], rounds: int, data: Path, file: Path | None, *, with_sentinels: bool
) -> int:
    """Run the rounds, print stories and table; return the exit status."""
    began = time.monotonic()
    rows = [Row(fault) for fault in faults]
    print(settings_line(), flush=True)
    broken = False
    for number in range(1, rounds + 1):
        directory = data / f"round-{number}"
        directory.mkdir()
        try:
            asyncio.run(run_round(number, rows, directory, with_sentinels=with_sentinels))
        except (AssertionError, TimeoutError, RunError) as error:
            print(f"Round {number} was aborted: {type(error).__name__}: {error}", file=sys.stderr)
            broken = True
    status = exits.exit_of(rows, broken=broken)
    print(f"\n{table(rows)}\n\n{LEGEND}\n{totals(rows)}")
    if times_of_failovers := failovers(rows):
        print(times_of_failovers)
    times = sum(len(row.verdicts) for row in rows)
    print(f"\n{times} times a fault, {time.monotonic() - began:.0f} s: {exits.verdict_of(status)}")
    if file is not None:
        file.write_text(json.dumps(as_json(rows), indent=2) + "\n")
    return status


def _found(name: str) -> bool:
    return bool(find_haproxy() if name == "haproxy" else shutil.which(name))


if __name__ == "__main__":
    sys.exit(main())
