"""Making changes (R11 to R13): what is written once, in time, by whom, and on which state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.services.devices import Device
from tests.simulation.stage import hold

if TYPE_CHECKING:
    from tests.simulation.stage import Stage


def a_second_try(stage: Stage) -> None:
    """R11: the first attempt's answer is lost and its request rejected; then the retry arrives."""
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


def a_revoked_operator(stage: Stage) -> None:
    """R12: a revoked operator approves itself again at a gateway that missed the revoke."""
    operator = stage.devices[1]
    stage.pair(operator)
    stage.enter(operator)
    subscription = stage.gateway.lines[1]
    subscription.down.cut = True
    stage.operate("revoke", operator)
    again = Device(stage.world, stage.cluster.oracle, operator.number)
    again.connect(stage.gateway, with_token=False)
    stage.run(0.1)
    operator.operate("device.pair.approve", requestId=stage.request_of(operator))
    stage.run(0.1)
    subscription.mend()
    stage.run(1.5)


def a_revoke_before_the_commit(stage: Stage) -> None:
    """R12: an operator is revoked after its record was read for a call, and before the commit.

    This is tried before each store request of the call.
    """
    operator = stage.devices[1]
    stage.only_the_first_is_heard()
    way = stage.one.lines[2].up
    for passed in range(1, 5):
        stage.pair(operator)
        stage.enter(operator)
        stage.operate("remove", stage.device, stage.other)
        stage.before_a_beat(0.5)
        stage.device.connect(stage.gateway, with_token=False)
        stage.run(0.1)
        hold(way)
        operator.operate("device.pair.approve", requestId=stage.request_of(stage.device))
        for _ in range(passed):
            stage.until(lambda: way.holds)
            way.mend()
            hold(way)
        stage.until(lambda: way.holds)
        stage.operate("revoke", operator, stage.other)
        way.mend()
        stage.until(lambda: operator.idle)


def gone_before_it_was_answered(stage: Stage) -> None:
    """R13: a connection was reported, the answer is lost, and the connection closes."""
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
