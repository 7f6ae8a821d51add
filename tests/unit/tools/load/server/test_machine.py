"""What other programs used of the machine during a measurement."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.load_runs import ADMITTED, SYSTEM, churned
from tools.load.plan import Plan, Scenario
from tools.load.report.page import as_page
from tools.load.report.report import make_report
from tools.load.report.text import as_text
from tools.load.server import machine
from tools.load.server.machine import (
    BUSY_CORES,
    OtherPrograms,
    OtherUse,
    Process,
    Used,
    all_processes,
    belonging,
    machine_seconds,
    other_use,
    process_seconds,
)
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

SPIN = "while True: pass"


def test_what_is_neither_idle_nor_ours_was_used_by_others() -> None:
    def used(at: float, programs: float, ours: float, others: float = 0.0) -> Used:
        return Used(at, programs, ours, others, stolen=0.0)

    first = used(10.0, 100.0, 40.0)
    assert other_use(first, used(12.0, 103.0, 41.0)) == OtherUse(1.0)
    assert other_use(first, used(12.0, 101.0, 41.5)) == OtherUse(0.0)
    assert other_use(first, first) == OtherUse(0.0)


def test_what_the_kernels_total_misses_is_seen_in_the_processes() -> None:
    first = Used(10.0, programs=100.0, ours=40.0, others=60.0, stolen=0.0)
    last = Used(12.0, programs=101.0, ours=41.0, others=61.0, stolen=0.0)
    assert other_use(first, last) == OtherUse(0.5)


def test_what_the_hypervisor_withheld_counts_on_its_own() -> None:
    first = Used(10.0, programs=100.0, ours=40.0, others=0.0, stolen=5.0)
    last = Used(14.0, programs=101.0, ours=41.0, others=0.0, stolen=7.0)
    assert other_use(first, last) == OtherUse(0.0, stolen=0.5)


def test_interrupts_belong_to_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    columns = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    line = " ".join(str(column * ticks) for column in columns)
    (tmp_path / "stat").write_text(f"cpu  {line}\ncpu0 {line}\n")
    monkeypatch.setattr(machine, "PROC", tmp_path)
    assert machine_seconds() == (1 + 2 + 4, 128)
    (tmp_path / "stat").unlink()
    assert machine_seconds() is None
    assert OtherPrograms().use() is None


def test_descendants_and_named_processes_belong_to_the_measurement() -> None:
    processes = {
        pid: Process(parent, 0.0) for pid, parent in {1: 0, 5: 1, 6: 5, 7: 6, 8: 1}.items()
    }
    assert belonging(processes, 5, ()) == {5, 6, 7}
    assert belonging(processes, 5, (8, 99)) == {5, 6, 7, 8}


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (OtherUse(0.1), False),
        (OtherUse(BUSY_CORES), True),
        (OtherUse(0.1, stolen=0.2), True),
        (None, False),
    ],
)
def test_a_report_says_that_the_machine_was_too_busy(
    use: OtherUse | None, *, expected: bool
) -> None:
    run = churned(ADMITTED)
    run.watch.others = use
    report = make_report(Plan(scenario=Scenario.CLOSED), SYSTEM, run)
    assert report.others_cores == (use and use.programs)
    assert report.stolen_cores == (use and use.stolen)
    assert ("and the hypervisor withheld 0.2" in as_text(report)) is bool(use and use.stolen)
    assert ("BUSY    the machine was too busy" in as_text(report)) is expected
    assert ('<p class="wrong">The machine was too busy' in as_page(report)) is expected
    assert ('"machineBusy": ""' not in report.as_json()) is expected
    assert any("cannot be determined here" in note for note in report.notes) is (use is None)


def test_our_own_children_do_not_count_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.getpid()
    child, watched, stranger = Process(here, 5.0), Process(1, 20.0), Process(1, 7.0)
    processes = {here: Process(1, 10.0), 2**22 + 1: child, 2**22 + 2: watched, 3: stranger}
    monkeypatch.setattr(machine, "all_processes", lambda: processes)
    first = OtherPrograms([2**22 + 2])._first
    assert first is not None
    assert (first.ours, first.others) == (10.0 + 5.0 + 20.0, 7.0)


def test_a_child_is_found_with_the_cpu_it_has_used() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as spinning:
        try:
            wait_until(lambda: process_seconds(spinning.pid) > 0.1, "it has used a tenth")
            processes = all_processes()
        finally:
            spinning.kill()
    assert spinning.pid in belonging(processes, os.getpid(), ())
    assert processes[spinning.pid].seconds > 0.1


def test_a_busy_unrelated_process_counts_as_other() -> None:
    stranger = subprocess.Popen(
        ["/bin/sh", "-c", f'"$0" -c "{SPIN}" & echo $!', sys.executable],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert stranger.stdout is not None
    pid = int(stranger.stdout.readline())
    stranger.wait()
    stranger.stdout.close()
    try:
        counting, started = OtherPrograms(), time.monotonic()
        began = process_seconds(pid)
        wait_until(lambda: process_seconds(pid) > began + 0.5, "it has used half a second")
        use = counting.use()
        assert use is not None
        assert use.programs * (time.monotonic() - started) > 0.4
    finally:
        subprocess.run(["/bin/kill", "-9", str(pid)], check=True)


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert process_seconds(2**22 + 1) == 0.0
