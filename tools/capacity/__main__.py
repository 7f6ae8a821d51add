"""`make capacity`: requirements by number of devices, and the course of measured storms.

--measure measures the unit costs on this machine, for tools/capacity/costs.py. --storms measures
storms on this machine, for tools/capacity/storms.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.places import ROOT
from tools.capacity.costs import MEASURED
from tools.capacity.measure import measure
from tools.capacity.measure_storms import DEVICES, StormError, measure_storms
from tools.capacity.storms import MEASURED_STORMS
from tools.capacity.tables import sizes_table, storms_table

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> int:
    """Print the tables that docs/capacity.md quotes, or measure; return the exit status."""
    parser = argparse.ArgumentParser(prog="make capacity", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure the unit costs, ~1 min")
    parser.add_argument(
        "--storms",
        type=int,
        nargs="*",
        metavar="N",
        help=f"measure storms of N devices each (Linux; default: {' '.join(map(str, DEVICES))})",
    )
    parser.add_argument(
        "--code",
        type=Path,
        default=ROOT,
        help="clone whose services --storms measures, to compare with an earlier commit",
    )
    given = parser.parse_args()
    if given.measure:
        measure()
        return 0
    if given.storms is not None:
        return _measure_storms(given.storms or DEVICES, given.code.resolve())
    print(sizes_table(MEASURED, MEASURED_STORMS))
    print()
    print(storms_table(MEASURED_STORMS, MEASURED))
    return 0


def _measure_storms(numbers: Sequence[int], code: Path) -> int:
    if sys.platform != "linux":
        print("--storms needs Linux.", file=sys.stderr)
        return 2
    storms = []
    try:
        for storm in measure_storms(numbers, code=code):
            storms.append(storm)
            print(f"{storm},", flush=True)
    except StormError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{storms_table(storms, MEASURED)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
