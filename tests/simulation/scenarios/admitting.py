"""Admission (R6, R7): answers that a change has overtaken, and clocks that kept running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.stage import hold

if TYPE_CHECKING:
    from tests.simulation.stage import Stage


def a_revoke_overtakes(stage: Stage) -> None:
    """R6: the event of a revoke arrives while an answer is in transit."""
    stage.pair(stage.device)
    stage.only_the_first_is_heard()
    _revoke_while_its_answer_is_held(stage)


def an_answer_of_a_forgotten_history(stage: Stage) -> None:
    """R6: an answer from a demoted master has the number of a revoke it does not know."""
    stage.pair(stage.device, stage.devices[1])
    stage.only_the_first_is_heard()
    stage.run(0.2)
    stage.operate("rename", stage.devices[1], stage.other)
    stage.split(forget=1, moved=[stage.other])
    _revoke_while_its_answer_is_held(stage)


def a_stopped_gateway_wakes(stage: Stage) -> None:
    """R7: frames that arrived while a gateway was stopped are handled before its timers."""
    stage.pair(stage.device)
    stage.enter(stage.device)
    subscription = stage.gateway.lines[1]
    subscription.down.cut = True
    stage.gateway.process.stop()
    stage.operate("revoke", stage.device)
    stage.calls(stage.device, 12.0)
    stage.gateway.process.wake(12.0, suspended=False)
    stage.run(0.5)


def _revoke_while_its_answer_is_held(stage: Stage) -> None:
    hold(stage.one.lines[0].up)
    stage.device.connect(stage.gateway, with_token=False)
    stage.run(0.1)
    stage.other.lines[0].mend()
    stage.operate("revoke", stage.device, stage.other)
    stage.run(0.05)
    stage.one.lines[0].mend()
    stage.run(0.3)
