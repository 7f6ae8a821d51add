"""The rows of the benchmark: order of rounds, arrivals, notes, and what cannot be measured."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tools.bench import rows
from tools.bench.measuring import Figures
from tools.bench.plain_proxies import before_bare
from tools.bench.relay.proxies import HAPROXY, NGINX
from tools.bench.rows import Bench
from tools.bench.subjects import BARE, LATCHKEY, VERIFYING, Subject
from tools.load.client.target import read_target
from tools.load.server.machine import OtherUse
from tools.load.server.subject import SystemUnderTest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.load.plan import Plan

SYSTEM = SystemUnderTest(read_target("ws://127.0.0.1:1"), "", "", "")


class Recorder:
    """Replaces the servers and the measurements."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cores: int = 2) -> None:
        self.measured: list[tuple[str, Plan]] = []
        self.started: list[dict[str, object]] = []
        self.affinity: list[set[int]] = []
        self.installed = {HAPROXY: True, NGINX: True}
        monkeypatch.setattr(rows, "cores", lambda: (0, set(range(1, cores)) or {0}))
        monkeypatch.setattr(os, "sched_setaffinity", lambda _, given: self.affinity.append(given))
        monkeypatch.setattr(rows, "pin", lambda *_: None)
        monkeypatch.setattr(rows, "bare", self.bare)
        monkeypatch.setattr(rows, "latchkey_stack", self.latchkey_stack)
        monkeypatch.setattr(rows, "proxied", self.proxied)
        monkeypatch.setattr(rows, "measure", self.measure)

    @contextmanager
    def bare(self, name: str, *, verifies: bool) -> Iterator[Subject]:
        assert verifies is (name == VERIFYING)
        yield Subject(name, SYSTEM, ())

    @contextmanager
    def latchkey_stack(self, _directory: object, **given: object) -> Iterator[Subject]:
        self.started.append(given)
        yield Subject(LATCHKEY, SYSTEM, ())

    @contextmanager
    def proxied(self, *_: object) -> Iterator[dict[str, Subject | None]]:
        yield {
            before_bare(name): Subject(before_bare(name), SYSTEM, ()) if here else None
            for name, here in self.installed.items()
        }

    def measure(self, subject: Subject, plan: Plan) -> Figures:
        self.measured.append((subject.name, plan))
        return Figures(1000.0, 100.0, 1.0, 2.0, 0.5)

    def tables(self, row: str, *, rounds: int = 2) -> list[str]:
        given = argparse.Namespace(rounds=rounds, seconds=1.0, log_level="info")
        with ExitStack() as stack:
            return list(Bench(given, stack).measured(row))

    @property
    def names(self) -> Sequence[str]:
        return [name for name, _ in self.measured]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def test_rounds_alternate_and_change_direction(recorder: Recorder) -> None:
    recorder.tables("refusals", rounds=3)
    ours = f"{LATCHKEY}, refusals"
    assert recorder.names == [BARE, ours, ours, BARE, BARE, ours]
    scenarios = {name: plan.scenario.value for name, plan in recorder.measured}
    assert scenarios == {BARE: "closed", ours: "refusals"}


def test_admissions_are_listed_beside_proxies_that_are_installed(recorder: Recorder) -> None:
    recorder.installed[NGINX] = False
    beside, without = recorder.tables("admissions", rounds=1)
    assert recorder.names == [BARE, VERIFYING, before_bare(HAPROXY), LATCHKEY, BARE, LATCHKEY]
    assert f"| {before_bare(NGINX)} | not installed |" in beside
    assert "nginx" not in without
    assert [plan.phases[-1].in_flight for _, plan in recorder.measured] == [64] * 4 + [512] * 2


def test_subjects_of_a_round_get_the_same_arrivals_and_later_rounds_others(
    recorder: Recorder,
) -> None:
    first, second = recorder.tables("latency")
    assert "Latency at 500 a second" in first
    assert "Latency at 1,000 a second" in second
    phases = [phase for _, plan in recorder.measured for phase in plan.phases]
    assert all(phase.is_open and phase.poisson for phase in phases)
    assert [plan.phases[-1].rate for _, plan in recorder.measured] == [500] * 4 + [1000] * 4
    assert [plan.phases[-1].seed for _, plan in recorder.measured] == [0, 0, 1, 1] * 2


def test_the_cpu_at_a_low_rate_is_relative_to_the_bare_server_at_that_rate(
    recorder: Recorder,
) -> None:
    (text,) = recorder.tables("rate")
    assert {plan.phases[-1].rate for _, plan in recorder.measured} == {200}
    assert "CPU at 200 admissions a second" in text
    assert "CPU: this / bare" in text
    assert "load late, p99 ms" in text


def test_two_gateways_on_one_core_are_compared_with_bare_and_with_one(recorder: Recorder) -> None:
    first, second = recorder.tables("gateways", rounds=1)
    assert recorder.started[-1]["gateways"] == 2
    assert recorder.started[-1]["cores"] == (0,)
    assert "Two gateways on one core, 64 in flight" in first
    assert "Two gateways on one core, 512 in flight" in second
    for head in ("CPU: this / bare", "CPU: this / one gateway"):
        assert head in first


def test_two_gateways_with_a_core_each_need_three_cores(recorder: Recorder) -> None:
    (text,) = recorder.tables("cores")
    assert recorder.measured == []
    assert "Not measured: this needs at least 3 cores" in text
    assert text.endswith("but only 2 are available.")


def test_two_gateways_get_a_core_each_and_the_load_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(monkeypatch, cores=4)
    (text,) = recorder.tables("cores", rounds=1)
    assert recorder.names == ["one gateway", "two gateways"]
    assert "rate: this / one gateway" in text
    one, two = recorder.started[-2:]
    assert (one["gateways"], one["approvals"], one["cores"]) == (1, 1, (0,))
    assert (two["gateways"], two["approvals"], two["cores"]) == (2, 2, (0, 1))
    assert recorder.affinity == [{1, 2, 3}, {2, 3}, {1, 2, 3}]


class Others:
    """Replaces the measurement of other programs."""

    uses: Iterator[OtherUse] = iter(())

    def use(self) -> OtherUse:
        return next(self.uses)


def test_a_table_without_rounds_has_a_note_if_the_machine_was_too_busy_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Others, "uses", iter([OtherUse(1.5), OtherUse(0.0)]))
    monkeypatch.setattr(rows, "OtherPrograms", Others)
    busy, quiet = rows.noted_each(iter(["first", "second"]))
    assert busy.startswith("first\n\n**The machine was too busy: other programs used 1.5 of its")
    assert quiet == "second"
