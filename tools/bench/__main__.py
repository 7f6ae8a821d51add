"""`make bench`: compares Latchkey with a bare WebSocket server, in Markdown tables.

Rounds alternate in one run. Redis, approval and gateway share one core, which the baselines use
alone in their turn; the load has the other cores. Only the ratios are meaningful: machines differ,
and so does their load over time. `load` is the busiest load process's share of its core.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.local.errors import RunError, file_problem
from tools.bench import more
from tools.bench.latchkey import latchkey_stack
from tools.bench.measuring import closed, measure, open_loop
from tools.bench.questions import questions
from tools.bench.relay.rows import CONNECTIONS, SIZES, RelayPlan, relayed
from tools.bench.subjects import BARE, VERIFYING, bare, cores, pin
from tools.bench.table import churn_table, latency_table
from tools.load.client.dialer import Unreachable, raise_descriptor_limit
from tools.load.plan import REFUSAL_DEVICES, Plan, Scenario
from tools.load.server.approval import ApprovalError
from tools.load.server.machine import OtherPrograms, busy_text
from tools.load.server.pairing import PairingError, new_identities
from tools.load.workers.processes import WorkersError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.bench.measuring import Figures
    from tools.bench.subjects import Subject

ADMISSIONS: Final = (64, 512)
"""Handshakes in flight."""
RATE: Final = 1000
ROWS: Final = ("admissions", "refusals", "latency")
MORE: Final = ("idle", "revoke", "gateways", "questions", "relay")


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
        for name in given.only:
            others = OtherPrograms()
            for table in bench.measured(name):
                print(table, flush=True)
                if busy := busy_text(others.cores()):
                    print(f"\n**{busy[0].upper()}{busy[1:]}.**", flush=True)
                others = OtherPrograms()


class Bench:
    """All subjects, and how each row is measured. They end with the exit stack."""

    def __init__(self, given: argparse.Namespace, stack: ExitStack) -> None:
        self._given = given
        self._stack = stack
        self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._core, load_cores = cores()
        self._workers = len(load_cores)
        if self._core in load_cores:
            print("Load and servers share the only core: read only the ratios of CPU.")
        yardsticks = [
            stack.enter_context(bare(BARE, verifies=False)),
            stack.enter_context(bare(VERIFYING, verifies=True)),
        ]
        for subject in yardsticks:
            pin(subject, self._core)
        self._latchkey = self._house(gateways=1)
        self._subjects = [*yardsticks, self._latchkey]
        os.sched_setaffinity(0, load_cores)

    def measured(self, name: str) -> Iterator[str]:
        """Yield the tables of one row."""
        given, ours, workers = self._given, self._latchkey, self._workers
        rounds = {"rounds": given.rounds, "seconds": given.seconds, "workers": workers}
        match name:
            case "admissions":
                yield from map(self._admissions, ADMISSIONS)
            case "refusals":
                yield self._refusals()
            case "latency":
                yield self._latency()
            case "idle":
                yield self._idle()
            case "revoke":
                yield more.revoke(ours, given.connections, workers)
            case "relay":
                plan = RelayPlan(
                    given.rounds,
                    given.seconds,
                    given.relay_sizes,
                    given.relay_connections,
                    with_memory=not given.no_relay_memory,
                )
                yield from relayed(self._new_directory() / "relay", self._core, plan)
            case "questions":
                yield questions(
                    self._new_directory(),
                    self._core,
                    rounds=given.rounds,
                    seconds=given.seconds,
                    log_level=given.log_level,
                )
            case _:
                two = self._house(gateways=2)
                for in_flight in ADMISSIONS:
                    yield more.gateways(ours, two, in_flight, **rounds)

    def _admissions(self, in_flight: int) -> str:
        plan = closed(Scenario.CLOSED, self._given.seconds, in_flight, workers=self._workers)
        title = f"Admissions, {in_flight} handshakes in flight ({self._how})"
        return churn_table(title, self._alternate(plan))

    def _latency(self) -> str:
        plan = open_loop(self._given.seconds, RATE, workers=self._workers)
        title = f"Latency at {RATE:,} a second, from the intended start ({self._how})"
        return latency_table(title, self._alternate(plan))

    def _refusals(self) -> str:
        """Measure unapproved devices that ask repeatedly: only the first time causes a write."""
        seconds, in_flight = self._given.seconds, ADMISSIONS[0]
        plan = closed(Scenario.REFUSALS, seconds, in_flight, workers=self._workers)
        unpaired = new_identities(REFUSAL_DEVICES)
        ours = self._latchkey
        found = [measure(ours, plan, unpaired) for _ in range(self._given.rounds)]
        title = f'Refusals, "pairing required", {in_flight} in flight ({self._how})'
        return churn_table(title, {ours.name: found})

    def _idle(self) -> str:
        """Measure on fresh processes: freed memory may stay resident."""
        given = self._given
        with ExitStack() as fresh:
            plain = fresh.enter_context(bare(BARE, verifies=False))
            pin(plain, self._core)
            subjects = plain, self._house(gateways=1, stack=fresh)
            return more.idle(subjects, given.connections, given.idle_seconds, self._workers)

    @property
    def _how(self) -> str:
        return f"{self._given.rounds} rounds of {self._given.seconds:g} s"

    def _alternate(self, plan: Plan) -> dict[str, list[Figures]]:
        found: dict[str, list[Figures]] = {subject.name: [] for subject in self._subjects}
        for _ in range(self._given.rounds):
            for subject in self._subjects:
                found[subject.name].append(measure(subject, plan))
        return found

    def _new_directory(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._directory))

    def _house(self, *, gateways: int, stack: ExitStack | None = None) -> Subject:
        where = self._new_directory()
        level = self._given.log_level
        return (stack or self._stack).enter_context(
            latchkey_stack(where, gateways=gateways, log_level=level, core=self._core)
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of alternating rounds")
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of a round")
    parser.add_argument(
        "--only", nargs="+", choices=[*ROWS, *MORE], help=f"measure only these ({', '.join(ROWS)})"
    )
    parser.add_argument("--more", action="store_true", help=f"measure also {', '.join(MORE)}")
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
    given.only = given.only or [*ROWS, *(MORE if given.more else ())]
    return given


if __name__ == "__main__":
    sys.exit(main())
