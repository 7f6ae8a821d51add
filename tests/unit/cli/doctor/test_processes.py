"""How many processes answered."""

from __future__ import annotations

import pytest

from services.cli.doctor.openclaw.processes import Sighting, processes, sighting, state_directory


def seen(at: float, uptime: float, *, boot: str = "", took: float = 0.1) -> Sighting:
    """Return a sighting of a process with this uptime at its answer."""
    return Sighting(boot, "2026.3.28", uptime, at, at + took)


def test_boot_ids_tell_processes_apart() -> None:
    found = processes([seen(1, 60, boot="a"), seen(2, 60, boot="b"), seen(3, 62, boot="a")])
    assert [(item.name, item.connections, item.uptime_seconds) for item in found] == [
        ("a", 2, 62),
        ("b", 1, 60),
    ]


def test_without_them_one_process_is_one_whenever_it_is_asked() -> None:
    assert len(processes([seen(at, 60 + at) for at in (0, 0.05, 3, 3600)])) == 1


def test_without_them_processes_started_apart_are_distinguished() -> None:
    sightings = [seen(at, 60 + at) for at in (0, 1)] + [seen(at, 900 + at) for at in (0.5, 2)]
    assert [process.connections for process in processes(sightings)] == [2, 2]


def test_without_them_slow_answers_do_not_make_two_of_one() -> None:
    """A process started at 0 answers late, so each sighting is imprecise."""
    sightings = [seen(60, 61, took=2), seen(62, 62, took=2), seen(70, 71.5, took=2)]
    assert len(processes(sightings)) == 1


def test_nothing_seen_is_no_process() -> None:
    assert processes([]) == []


@pytest.mark.parametrize("hello", [{}, {"server": [], "snapshot": {"uptimeMs": "long"}}])
def test_a_hello_that_says_nothing_is_read_all_the_same(hello: dict[str, object]) -> None:
    assert sighting(hello, asked_at=1, answered_at=2) == Sighting("", "", 0.0, 1, 2)
    assert state_directory(hello) == ""


def test_the_state_directory_is_read_from_the_paths_of_its_files() -> None:
    path = "/data/.openclaw/agents/main/agent/openclaw-agent.sqlite"
    snapshot = {"health": {"sessions": {"path": path}}}
    assert state_directory({"snapshot": snapshot}) == "/data/.openclaw"
    assert state_directory({"snapshot": {"stateDir": "/srv/openclaw"}}) == "/srv/openclaw"
