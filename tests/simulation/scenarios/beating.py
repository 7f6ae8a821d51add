"""Heartbeats (R1 to R4, R14): what an answer proves, and which approval may give one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.approval.domain.authorization import OPERATOR
from tests.simulation.checks.settled import check_progress
from tests.simulation.stage import hold

if TYPE_CHECKING:
    from tests.simulation.stage import Stage


def a_late_answer(stage: Stage) -> None:
    """R1: an answer that took 1.8 s is credited to the heartbeat it answers, not to the newest."""
    stage.pair(stage.device)
    stage.only_the_first_is_heard()
    stage.enter(stage.device)
    publishing, subscription = stage.gateway.lines
    stage.after_a_beat()
    hold(subscription.down)
    stage.run(0.03)
    publishing.up.cut = True
    stage.operate("revoke", stage.device, stage.other)
    stage.run(1.75)
    subscription.mend()
    stage.run(0.02)
    subscription.down.cut = True
    stage.calls(stage.device, 13.0)


def an_overtaken_answer(stage: Stage) -> None:
    """R1: an answer overtaken by a newer heartbeat's names a position that was left since."""
    stage.pair(stage.device, stage.devices[1])
    subscription = stage.gateway.lines[1]
    stage.after_a_beat()
    stage.run(0.05)
    subscription.down.cut = True
    stage.operate("rename", stage.devices[1])
    stage.operate("rename", stage.devices[1])
    stage.trim()
    for approval in (stage.one, stage.other):
        hold(approval.lines[0].up)
    subscription.mend()
    stage.beats()
    slow = stage.with_a_held_answer()
    quick = stage.other if slow is stage.one else stage.one
    quick.lines[0].mend()
    stage.beats()  # the quick one's turn: every gateway starts over
    stage.beats()  # the slow one's
    stage.enter(stage.device)
    slow.lines[0].mend()
    stage.run(0.1)


def a_demoted_master(stage: Stage) -> None:
    """R2: a revoke on the new master while a gateway's heartbeats still reach the old one."""
    stage.pair(stage.device)
    stage.only_the_first_is_heard()
    stage.enter(stage.device)
    stage.after_a_beat()
    stage.run(0.2)
    stage.split(forget=0, moved=[stage.other])
    stage.operate("revoke", stage.device, stage.other)
    stage.calls(stage.device, 14.0)


def an_approval_left_behind(stage: Stage) -> None:
    """R3: an approval still reads from a demoted master; its answers never count.

    If heartbeats and requests alternate, it may be asked each time until the deadline.
    """
    stage.pair(stage.device)
    stage.split(forget=0, moved=[stage.other])
    stage.operate("rename", stage.device, stage.other)
    stage.run(7.0)
    for early in range(24):
        stage.before_a_beat(0.001 * early)
        stage.device.connect(stage.gateway, with_token=False)
        stage.run(2.5)
        check_progress(stage.cluster)
        stage.run(0.0)
        stage.device.leave()
        stage.run(0.1)


def far_behind(stage: Stage) -> None:
    """R4: more changes happen than answers to heartbeats can carry."""
    stage.pair(stage.device, stage.devices[1])
    stage.only_the_first_is_heard()
    stage.enter(stage.device)

    async def many() -> None:
        for number in range(1_500):
            await stage.other.registry.rename(
                OPERATOR, stage.devices[1].key.device_id, f"label {number}"
            )
            if number == 500:
                await stage.other.registry.revoke(
                    OPERATOR, stage.device.key.device_id, stage.device.role
                )
            await asyncio.sleep(0.012)

    stage.other.process.start(many(), "an eager operator")
    stage.calls(stage.device, 26.0)


def a_silent_loss(stage: Stage) -> None:
    """R14: a subscription is lost silently."""
    stage.pair(stage.device)
    stage.gateway.bus.lose(silently=True)
    stage.settle()
