"""What other programs used of the machine during a measurement."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.support.load_runs import ADMITTED, SYSTEM, churned
from tools.load.plan import Plan, Scenario
from tools.load.report.page import as_page
from tools.load.report.report import make_report
from tools.load.report.text import as_text
from tools.load.server.machine import (
    BUSY_CORES,
    OtherPrograms,
    Used,
    machine_seconds,
    others,
    process_seconds,
)
from tools.support.waiting import wait_until

SPIN = "while True: pass"


def test_what_is_neither_idle_nor_ours_was_used_by_others() -> None:
    first = Used(at=10.0, machine=100.0, ours=40.0)
    assert others(first, Used(at=12.0, machine=103.0, ours=41.0)) == 1.0
    assert others(first, Used(at=12.0, machine=101.0, ours=41.5)) == 0.0
    assert others(first, first) == 0.0


@pytest.mark.parametrize(("cores", "expected"), [(0.1, False), (BUSY_CORES, True), (None, False)])
def test_a_report_says_that_the_machine_was_too_busy(
    cores: float | None, *, expected: bool
) -> None:
    run = churned(ADMITTED)
    run.watch.others_cores = cores
    report = make_report(Plan(scenario=Scenario.CLOSED), SYSTEM, run)
    assert report.others_cores == cores
    assert ("BUSY    the machine was too busy" in as_text(report)) is expected
    assert ('<p class="wrong">The machine was too busy' in as_page(report)) is expected
    assert ('"machineBusy": ""' not in report.as_json()) is expected
    assert any("cannot be determined here" in note for note in report.notes) is (cores is None)


def test_our_own_children_do_not_count_as_others() -> None:
    """A busy child counts as ours: it does not increase the usage of others."""
    before = machine_seconds()
    assert before is not None
    counting = OtherPrograms()
    with subprocess.Popen([sys.executable, "-c", SPIN]) as spinning:
        try:
            wait_until(lambda: process_seconds(spinning.pid) > 0.5, "it has used half a second")
            began = time.monotonic()
            cores = counting.cores()
            used = process_seconds(spinning.pid)
        finally:
            spinning.kill()
    assert cores is not None
    whole = machine_seconds()
    assert whole is not None
    # The machine's total without the child's usage; one tick for each sample.
    assert cores * (began - counting.began) <= whole - before - used + 0.1


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
        counting = OtherPrograms()
        began = process_seconds(pid)
        wait_until(lambda: process_seconds(pid) > began + 0.5, "it has used half a second")
        cores = counting.cores()
        assert cores is not None
        assert cores * (time.monotonic() - counting.began) > 0.4
    finally:
        subprocess.run(["/bin/kill", "-9", str(pid)], check=True)


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert process_seconds(2**22 + 1) == 0.0
