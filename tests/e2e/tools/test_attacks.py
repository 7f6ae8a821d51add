"""The drill's attacks, small: they reach their target, and what they harm is seen."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import uvloop

from tools.drills.attacks import ALL
from tools.drills.attacks.attack import Attack, Target
from tools.drills.attacks.run import Size, run_attack
from tools.load.server.processes import find_servers

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Size(scale=0.02, seconds=2, storm_seconds=2, devices=20, sessions=4, recovery_seconds=2)


async def kill_the_gateway(target: Target) -> None:
    """Do what an attack must never achieve."""
    for server in find_servers(target.gateway_port, None):
        if server.role == "gateway":
            os.kill(server.pid, signal.SIGKILL)
    await asyncio.Event().wait()


def test_a_gateway_that_dies_is_seen_by_everybody(tmp_path: Path) -> None:
    attack = Attack(name="killed", do=kill_the_gateway)
    seen, verdict = uvloop.run(run_attack(attack, replace(SMALL, seconds=6), tmp_path))
    assert seen.broken == ""
    assert (verdict.sessions, verdict.lost) == (4, 2)
    assert verdict.recovery is None
    told = " ".join(verdict.violations)
    assert "the p99 of health checks was no answer" in told
    assert "newcomers were served" in told


@pytest.mark.parametrize(
    "name",
    [
        "malformed frames of 7 bytes",
        "pairing requests from one IPv6 /48",
        "ten times as many connects as are admitted",
        "all devices dropped at once",
    ],
)
def test_an_attack_of_each_kind_is_carried_out_and_observed(name: str, tmp_path: Path) -> None:
    (attack,) = [item for item in ALL if item.name == name]
    seen, verdict = uvloop.run(run_attack(attack, SMALL, tmp_path))
    assert seen.broken == ""
    assert verdict.sessions == 4
    assert len(seen.calls) > 10
    assert len(seen.health) > 10
    assert seen.newcomers
    if attack.storm is not None:
        assert seen.storm is not None
        assert seen.storm.closed_rate > 0
        assert seen.storm.completed > 0
