"""The rows of the benchmark: which subjects each one compares, under which load."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.bench import held, table
from tools.bench.latchkey import latchkey_stack
from tools.bench.measuring import closed, measure, open_loop
from tools.bench.plain_proxies import proxied
from tools.bench.questions import questions
from tools.bench.relay.rows import RelayPlan, relayed
from tools.bench.subjects import BARE, VERIFYING, Subject, bare, cores, pin
from tools.bench.table import figures_table
from tools.load.plan import REFUSAL_DEVICES, Scenario
from tools.load.server.machine import OtherPrograms, busy_text
from tools.load.server.pairing import new_identities

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tools.bench.measuring import Figures
    from tools.load.plan import Plan

IN_FLIGHT: Final = (64, 512)
"""Handshakes in flight in closed loops."""
LATENCY_RATES: Final = (500, 1000)
LOW_RATE: Final = 200
"""Admissions per second at which most questions travel alone, so that nothing is shared."""
CORES_NEEDED: Final = 3
"""For two gateways with a core each: theirs, and one for the load."""
DEFAULT_ROWS: Final = ("admissions", "refusals", "latency", "rate")
MORE_ROWS: Final = ("idle", "revoke", "gateways", "cores", "questions", "relay")


class Bench:
    """All subjects, and how each row is measured. They end with the exit stack."""

    def __init__(self, given: argparse.Namespace, stack: ExitStack) -> None:
        self._given = given
        self._stack = stack
        self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.core, self.load_cores = cores()
        self._bare = stack.enter_context(bare(BARE, verifies=False))
        self._verifying = stack.enter_context(bare(VERIFYING, verifies=True))
        for subject in (self._bare, self._verifying):
            pin(subject, self.core)
        self._latchkey = self._start(gateways=1)
        os.sched_setaffinity(0, self.load_cores)

    def measured(self, name: str) -> Iterator[str]:
        """Yield the tables of one row as they are ready."""
        given, ours = self._given, self._latchkey
        match name:
            case "admissions":
                yield self._admissions_beside_proxies()
                yield self._admissions(IN_FLIGHT[1])
            case "refusals":
                yield self._refusals()
            case "latency":
                yield from map(self._latency, LATENCY_RATES)
            case "rate":
                yield self._rate()
            case "gateways":
                yield from self._gateways()
            case "cores":
                yield self._cores()
            case "idle":
                yield noted(self._idle)
            case "revoke":
                yield noted(lambda: held.revoke(ours, given.connections, self._workers))
            case "relay":
                yield from self._relay()
            case _:
                yield noted(self._questions)

    def _admissions_beside_proxies(self) -> str:
        with proxied(self._new_directory(), self._bare, self.core) as proxies:
            installed = [subject for subject in proxies.values() if subject is not None]
            subjects = [self._bare, self._verifying, *installed, self._latchkey]
            missing = [name for name, subject in proxies.items() if subject is None]
            return self._admissions(IN_FLIGHT[0], subjects, missing)

    def _admissions(
        self, in_flight: int, subjects: Sequence[Subject] = (), missing: Iterable[str] = ()
    ) -> str:
        plan = closed(Scenario.CLOSED, self._given.seconds, in_flight, workers=self._workers)
        rounds = self._alternate(subjects or self._main, always(plan))
        title = f"Admissions, {in_flight} handshakes in flight ({self._how})"
        return figures_table(title, rounds, self._compared(rounds), missing=missing)

    def _refusals(self) -> str:
        """Measure unapproved devices that ask repeatedly: only the first time causes a write."""
        seconds, in_flight = self._given.seconds, IN_FLIGHT[0]
        admissions = closed(Scenario.CLOSED, seconds, in_flight, workers=self._workers)
        refusals = closed(Scenario.REFUSALS, seconds, in_flight, workers=self._workers)
        unpaired = new_identities(REFUSAL_DEVICES)
        ours = Subject(f"{self._latchkey.name}, refusals", self._latchkey.system, unpaired)
        rounds = self._alternate(
            [self._bare, ours],
            lambda subject: refusals if subject is ours else admissions,
        )
        title = f'Refusals, "pairing required", {in_flight} in flight ({self._how})'
        return figures_table(title, rounds, self._compared(rounds))

    def _latency(self, rate: int) -> str:
        rounds = self._open_loop(rate)
        title = f"Latency at {rate:,} a second, from the intended start ({self._how})"
        columns = {
            "a second": table.rates,
            "p50 ms": table.p50,
            "p99 ms": table.p99,
            "load late, p99 ms": table.start_delays,
        }
        return figures_table(title, rounds, columns)

    def _rate(self) -> str:
        rounds = self._open_loop(LOW_RATE)
        title = f"CPU at {LOW_RATE} admissions a second ({self._how})"
        columns = {**self._compared(rounds), "load late, p99 ms": table.start_delays}
        del columns["rate: this / bare"]
        return figures_table(title, rounds, columns)

    def _gateways(self) -> Iterator[str]:
        two = self._start(gateways=2)
        subjects = [
            self._bare,
            Subject("one gateway", self._latchkey.system, self._latchkey.identities),
            Subject("two gateways", two.system, two.identities),
        ]
        for in_flight in IN_FLIGHT:
            plan = closed(
                Scenario.CLOSED, self._given.seconds, in_flight, workers=max(2, self._workers)
            )
            rounds = self._alternate(subjects, always(plan))
            columns = {
                **self._compared(rounds),
                "CPU: this / one gateway": table.cost_to(rounds["one gateway"]),
            }
            title = f"Two gateways on one core, {in_flight} in flight ({self._how})"
            yield figures_table(title, rounds, columns)

    def _cores(self) -> str:
        """Compare two gateways with a core each to one. Approvals and Redis use their cores."""
        title = f"Two gateways with a core each, {IN_FLIGHT[1]} in flight ({self._how})"
        available = {self.core, *self.load_cores}
        if len(available) < CORES_NEEDED:
            return (
                f"\n### {title}\n\nNot measured: this needs at least {CORES_NEEDED} cores (two for "
                f"the servers, one for the load), but only {len(available)} are available."
            )
        second = min(self.load_cores)
        with self._load_on(self.load_cores - {second}), ExitStack() as stack:
            both = (self.core, second)
            one = self._start(gateways=1, stack=stack)
            two = self._start(gateways=2, approvals=2, on=both, stack=stack)
            plan = closed(
                Scenario.CLOSED, self._given.seconds, IN_FLIGHT[1], workers=max(2, self._workers)
            )
            subjects = [
                Subject("one gateway", one.system, one.identities),
                Subject("two gateways", two.system, two.identities),
            ]
            rounds = self._alternate(subjects, always(plan))
            reference = rounds["one gateway"]
            columns = {
                "a second": table.rates,
                "rate: this / one gateway": table.rate_to(reference),
                "CPU µs each": table.costs,
                "CPU: this / one gateway": table.cost_to(reference),
                "of which": table.shares,
            }
            return figures_table(title, rounds, columns)

    def _idle(self) -> str:
        """Measure on fresh processes: freed memory may stay resident."""
        given = self._given
        with ExitStack() as fresh:
            plain = fresh.enter_context(bare(BARE, verifies=False))
            pin(plain, self.core)
            subjects = plain, self._start(gateways=1, stack=fresh)
            return held.idle(subjects, given.connections, given.idle_seconds, self._workers)

    def _questions(self) -> str:
        return questions(
            self._new_directory(),
            self.core,
            rounds=self._given.rounds,
            seconds=self._given.seconds,
            log_level=self._given.log_level,
        )

    def _relay(self) -> Iterator[str]:
        given = self._given
        plan = RelayPlan(
            given.rounds,
            given.seconds,
            given.relay_sizes,
            given.relay_connections,
            with_memory=not given.no_relay_memory,
        )
        return noted_each(relayed(self._new_directory() / "relay", self.core, plan))

    @property
    def _main(self) -> list[Subject]:
        return [self._bare, self._latchkey]

    @property
    def _workers(self) -> int:
        return len(self.load_cores)

    @property
    def _how(self) -> str:
        count = self._given.rounds
        return f"{count} round{'s'[: count > 1]} of {self._given.seconds:g} s"

    def _compared(self, rounds: Mapping[str, Sequence[Figures]]) -> dict[str, table.Cell]:
        """Return the columns that compare each subject with the bare server."""
        reference = rounds[BARE]
        return {
            "a second": table.rates,
            "rate: this / bare": table.rate_to(reference),
            "CPU µs each": table.costs,
            "CPU: this / bare": table.cost_to(reference),
            "of which": table.shares,
        }

    def _open_loop(self, rate: int) -> dict[str, list[Figures]]:
        """Measure at a rate; within a round, all subjects get the same arrivals."""
        seconds, workers = self._given.seconds, self._workers
        rounds: dict[str, list[Figures]] = {subject.name: [] for subject in self._main}
        for number in range(self._given.rounds):
            plan = open_loop(seconds, rate, workers=workers, seed=number)
            for subject in in_turn(self._main, number):
                rounds[subject.name].append(measure(subject, plan))
        return rounds

    def _alternate(
        self, subjects: Sequence[Subject], plan_of: Callable[[Subject], Plan]
    ) -> dict[str, list[Figures]]:
        rounds: dict[str, list[Figures]] = {subject.name: [] for subject in subjects}
        for number in range(self._given.rounds):
            for subject in in_turn(subjects, number):
                rounds[subject.name].append(measure(subject, plan_of(subject)))
        return rounds

    @contextmanager
    def _load_on(self, load_cores: set[int]) -> Iterator[None]:
        """Have the load use these cores only."""
        before = self.load_cores
        self.load_cores = load_cores
        os.sched_setaffinity(0, load_cores)
        try:
            yield
        finally:
            self.load_cores = before
            os.sched_setaffinity(0, before)

    def _new_directory(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._directory))

    def _start(
        self,
        *,
        gateways: int,
        approvals: int = 1,
        on: Sequence[int] = (),
        stack: ExitStack | None = None,
    ) -> Subject:
        return (stack or self._stack).enter_context(
            latchkey_stack(
                self._new_directory(),
                gateways=gateways,
                approvals=approvals,
                log_level=self._given.log_level,
                cores=on or (self.core,),
            )
        )


def in_turn(subjects: Sequence[Subject], number: int) -> Sequence[Subject]:
    """Return the order of a round: forward and backward, so that none is always first."""
    return subjects if number % 2 == 0 else subjects[::-1]


def always(plan: Plan) -> Callable[[Subject], Plan]:
    """Return the same plan for each subject."""
    return lambda _: plan


def noted(make: Callable[[], str]) -> str:
    """Make a table that is not measured in rounds, with a note if the machine was too busy."""
    others = OtherPrograms()
    text = make()
    busy = busy_text(others.use())
    return f"{text}\n\n**{busy[0].upper()}{busy[1:]}.**" if busy else text


def noted_each(tables: Iterator[str]) -> Iterator[str]:
    """Add to each table a note if the machine was too busy while it was made."""
    with suppress(StopIteration):
        while True:
            yield noted(tables.__next__)
