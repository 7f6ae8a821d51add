"""Changing things (R11, R13): what is written once, in time, and on what it was built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.stage import hold

if TYPE_CHECKING:
    from tests.simulation.stage import Stage


def a_second_try(stage: Stage) -> None:
    """R11: the first try's answer is lost, its request rejected; then comes the second try."""
    for approval in (stage.one, stage.other):
        approval.lines[0].up.cut = True
    stage.device.connect(stage.gateway, with_token=False)
    stage.run(0.3)
    stage.reject()
    stage.run(1.5)


def a_late_commit(stage: Stage) -> None:
    """R11: a commit is on its way to Redis for six seconds."""
    stage.cluster.kill(stage.other)
    stage.run(4.0)
    store = stage.one.lines[2]
    hold(store.down)
    stage.device.connect(stage.gateway, with_token=False)
    stage.run(0.1)
    hold(store.up)
    store.down.mend()
    stage.run(6.0)
    store.mend()
    stage.run(0.5)


def gone_before_it_was_answered(stage: Stage) -> None:
    """R13: a connection was told, the answer is lost, and it leaves."""
    stage.pair(stage.device)
    stage.run(1.0)
    stage.after_a_beat()
    stage.run(0.3)
    stage.enter(stage.device)
    stage.gateway.lines[1].down.cut = True
    stage.after_a_beat()
    stage.run(0.1)
    stage.device.leave()
    stage.run(2.0)
    stage.gateway.lines[1].mend()
    stage.settle()
