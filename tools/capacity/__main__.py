"""`make capacity`: requirements by number of devices, and the course of reconnect storms.

With --measure: the unit costs on this machine, for tools/capacity/costs.py.
"""

from __future__ import annotations

import argparse

from tools.capacity.costs import MEASURED
from tools.capacity.measure import measure
from tools.capacity.tables import sizes_table, storms_table


def main() -> None:
    """Print the tables that docs/results/capacity.md quotes, or measure."""
    parser = argparse.ArgumentParser(prog="make capacity", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure the unit costs, ~1 min")
    if parser.parse_args().measure:
        measure()
        return
    print(sizes_table(MEASURED))
    print()
    print(storms_table(MEASURED))


if __name__ == "__main__":
    main()
