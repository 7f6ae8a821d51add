"""Applying changes (R5, R8 to R10): lost histories, and which connections a change concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.stage import hold

if TYPE_CHECKING:
    from tests.simulation.stage import Stage


def news_of_two_histories(stage: Stage) -> None:
    """R5: an event of a forgotten change, then one that follows it only by number."""
    stage.pair(stage.device, stage.devices[1])
    stage.only_the_first_is_heard()
    stage.enter(stage.device)
    stage.after_a_beat()
    stage.run(0.1)
    stage.operate("rename", stage.devices[1])
    stage.split(forget=1, moved=[stage.one, stage.other])
    stage.operate("revoke", stage.device, stage.other)
    stage.operate("rename", stage.devices[1])
    stage.calls(stage.device, 12.0)


def a_call_in_another_history(stage: Stage) -> None:
    """R5: a call's change has a number that was applied, but in a forgotten history."""
    operator = stage.devices[1]
    stage.pair(stage.device, operator)
    stage.enter(operator)
    stage.operate("rename", stage.device)
    stage.operate("rename", stage.device)
    stage.after_a_beat()
    stage.run(0.2)
    stage.split(forget=2, moved=[stage.one, stage.other])
    operator.operate("device.pair.remove", deviceId=stage.device.key.device_id)
    stage.run(0.5)


def a_trimmed_log(stage: Stage) -> None:
    """R8: a revoke was missed, and the log no longer contains it."""
    stage.pair(stage.device, stage.devices[1])
    stage.enter(stage.device)
    subscription = stage.gateway.lines[1]
    subscription.down.cut = True
    stage.operate("revoke", stage.device)
    stage.operate("rename", stage.devices[1])
    stage.trim()
    stage.run(0.5)
    subscription.mend()
    stage.calls(stage.device, 12.0)


def an_answer_from_before(stage: Stage) -> None:
    """R8: an answer from before the loss of a history arrives after it."""
    stage.pair(stage.device, stage.devices[1])
    stage.cluster.kill(stage.gateway)
    stage.cluster.restart(stage.gateway)
    stage.gateway = stage.cluster.gateways[0]
    subscription = stage.gateway.lines[1]
    stage.run(2.0)
    stage.after_a_beat()
    stage.run(0.05)
    for approval in (stage.one, stage.other):
        hold(approval.lines[0].up)
    stage.device.connect(stage.gateway, with_token=False)
    stage.run(0.03)
    free = stage.one if stage.other.lines[0].up.holds else stage.other
    free.lines[0].mend()
    subscription.down.cut = True
    stage.operate("revoke", stage.device, free)
    stage.trim()
    stage.operate("rename", stage.devices[1], free)
    stage.trim()
    subscription.mend()
    stage.operate("rename", stage.devices[1], free)
    stage.run(0.15)
    for approval in (stage.one, stage.other):
        approval.lines[0].mend()
    stage.calls(stage.device, 12.0)


def a_rotated_token(stage: Stage) -> None:
    """R9: a rotated role's connections end."""
    stage.pair(stage.device)
    stage.enter(stage.device)
    stage.operate("rotate", stage.device)
    stage.calls(stage.device, 11.0)


def a_new_label(stage: Stage) -> None:
    """R9: a change that does not concern a connection leaves it open."""
    stage.pair(stage.device)
    stage.enter(stage.device)
    stage.operate("rename", stage.device)
    stage.run(0.5)


def news_above_the_head(stage: Stage) -> None:
    """R10: an event of a device was received that history has forgotten since."""
    stage.pair(stage.device, stage.devices[1])
    stage.run(0.5)
    subscription = stage.gateway.lines[1]
    stage.after_a_beat()
    stage.run(0.2)
    subscription.down.cut = True
    stage.operate("rename", stage.devices[1])
    subscription.mend()
    seen = stage.gateway.beat.head_seen
    stage._work.change(stage.one, "rename", stage.device)
    stage.until(lambda: stage.gateway.beat.head_seen > seen)
    stage.split(forget=2, moved=[stage.one, stage.other])
    stage.settle()
