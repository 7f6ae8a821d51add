from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.load_runs import watched
from tools.load.recording import PhaseRecord
from tools.load.server import processes
from tools.load.server.processes import Watch, Watched, find_servers, sample
from tools.load.server.servers import server_points, server_uses
from tools.load.workers.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_a_process_has_memory_descriptors_and_threads() -> None:
    with socket.socket():
        found = sample(os.getpid(), 1.0)
    assert found
    assert found.rss_bytes > 1 << 20
    assert found.descriptors > 3
    assert found.threads >= 1


@pytest.fixture
def busy() -> Iterator[tuple[int, float]]:
    """Yield the id of a process that has worked, and the CPU seconds that it counted itself."""
    work = "import sys, time; sum(range(3_000_000)); print(time.process_time()); sys.stdin.read()"
    command = [sys.executable, "-u", "-c", work]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, float(process.stdout.readline())
        process.kill()


def test_cpu_is_counted_more_exactly_than_in_ticks(busy: tuple[int, float]) -> None:
    """Ticks are 10 ms on most systems; a round may cost less than a hundred of them."""
    pid, seconds = busy
    found = sample(pid, 1.0)
    assert found
    assert found.cpu_seconds == pytest.approx(seconds, abs=0.1)
    ticks = found.cpu_seconds * os.sysconf("SC_CLK_TCK")
    assert ticks != pytest.approx(round(ticks), rel=0, abs=1e-6)


def test_without_exact_counts_cpu_is_read_in_ticks(
    busy: tuple[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, seconds = busy
    monkeypatch.setattr(processes, "cpu_seconds", lambda _pid: 0.0)
    found = sample(pid, 1.0)
    assert found
    assert found.cpu_seconds == pytest.approx(seconds, abs=0.1)


def test_a_process_that_is_gone_is_left_out() -> None:
    assert sample(2**22 + 1, 1.0) is None
    watch = Watch([Watched("gateway", 2**22 + 1)])
    watch.take()
    assert server_points(watch, 0.0) == []


def test_a_listener_that_is_no_service_is_not_taken_for_one() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        assert find_servers(sock.getsockname()[1], None) == []


class TestUse:
    def test_cpu_is_the_share_of_a_core_between_samples(self) -> None:
        points = server_points(watched(), 100.0)
        assert [(point.at, point.busy) for point in points] == [(1, 0.5), (2, 0.5), (3, 0.5)]

    def test_growth_counts_from_when_memory_settled(self) -> None:
        phase = PhaseRecord("soak", begin=100.0, end=103.0, tally=Tally())
        (use,) = server_uses(watched(), phase)
        assert (use.rss_growth_bytes, use.descriptors_growth) == (2 << 20, 2)

    def test_a_phase_without_samples_has_no_figures(self) -> None:
        assert server_uses(watched(), PhaseRecord("later", begin=200.0, end=201.0)) == []


def test_the_processes_of_a_role_are_added_up() -> None:
    watch = watched()
    watch.add(Watched("gateway", 8))
    watch.samples[8] = list(watch.samples[7])
    (use,) = server_uses(watch, PhaseRecord("x", begin=100.0, end=103.0))
    assert (use.busy, use.threads) == (1.0, 2)
