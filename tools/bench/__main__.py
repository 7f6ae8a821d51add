"""`make bench`: compares Latchkey with a bare WebSocket server, in Markdown tables.

Rounds alternate in one run. Redis, approval and gateway share one core, which the baselines use
alone in their turn; the load has the other cores. Values are medians over the rounds (minimum to
maximum). Only the ratios, each within one round, are meaningful: machines differ, and so does their
load over time. `servers` is the CPU of all servers together, `load` that of the busiest load process,
as shares of a core.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from typing import Final

from deploy.local.errors import RunError, file_problem
from tools.bench.about import about
from tools.bench.relay.rows import CONNECTIONS, SIZES
from tools.bench.rows import DEFAULT_ROWS, MORE_ROWS, Bench
from tools.load.client.dialer import Unreachable, raise_descriptor_limit
from tools.load.server.approval import ApprovalError
from tools.load.server.pairing import PairingError
from tools.load.workers.processes import WorkersError

NOT_RUN: Final = 2
INTERRUPTED: Final = 130
_NOT_RUN = (
    RunError, Unreachable, ApprovalError, PairingError, WorkersError, AssertionError, OSError,
)  # fmt: skip


def main() -> int:
    """Measure and print; return the exit status."""
    given = _arguments()
    try:
        _measure(given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except _NOT_RUN as error:
        problem = file_problem(error) if isinstance(error, OSError) else error
        print(f"Not measured: {problem}", file=sys.stderr)
        return NOT_RUN
    return 0


def _measure(given: argparse.Namespace) -> None:
    raise_descriptor_limit()
    with ExitStack() as stack:
        bench = Bench(given, stack)
        print(about(bench.core, bench.load_cores), flush=True)
        if bench.core in bench.load_cores:
            print("\nLoad and servers share the only core: read only the ratios of CPU.")
        for name in given.only:
            for table in bench.measured(name):
                print(table, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of alternating rounds")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of a measurement")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*DEFAULT_ROWS, *MORE_ROWS],
        help=f"measure only these ({', '.join(DEFAULT_ROWS)})",
    )
    parser.add_argument("--more", action="store_true", help=f"measure also {', '.join(MORE_ROWS)}")
    parser.add_argument(
        "--connections", type=int, default=10_000, help="of idle and revoke (default 10000)"
    )
    parser.add_argument(
        "--idle-seconds",
        type=float,
        default=30.0,
        help="how long idle connections are held (default 30)",
    )
    parser.add_argument(
        "--relay-sizes", nargs="+", choices=SIZES, default=[*SIZES], help="frame sizes of relay"
    )
    parser.add_argument(
        "--relay-connections",
        nargs="+",
        type=int,
        default=CONNECTIONS,
        help="numbers of connections of relay",
    )
    parser.add_argument(
        "--no-relay-memory",
        action="store_true",
        help="of relay, leave out the memory of idle sessions and of stalls",
    )
    parser.add_argument("--log-level", default="info", help="LOG_LEVEL of the services (info)")
    given = parser.parse_args()
    given.only = given.only or [*DEFAULT_ROWS, *(MORE_ROWS if given.more else ())]
    return given


if __name__ == "__main__":
    sys.exit(main())
