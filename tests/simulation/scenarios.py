"""Directed scenarios: for each rule, the situation in which it is all that stands in the way.

Each passes with the real parts, and breaks an invariant without its rule (`test_rules.py`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.approval.authority import OPERATOR
from tests.simulation.faults import Faults
from tests.simulation.settled import check_progress

if TYPE_CHECKING:
    from tests.simulation.network import Way
    from tests.simulation.stage import Stage


def hold(way: Way) -> None:
    """Keep back what is sent on a way until it is mended."""
    way.cut = way.keeps = True


def a_late_answer(stage: Stage) -> None:
    """R1: an answer that took 1.8 s is credited to the beat it answers, not to the newest."""
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
    """R1: an answer that a newer beat's has overtaken tells of a place that was left since."""
    stage.pair(stage.device, stage.devices[1])
    subscription = stage.gateway.lines[1]
    stage.after_a_beat()
    stage.run(0.05)
    subscription.down.cut = True
    stage.operate("rename", stage.devices[1])
    stage.operate("rename", stage.devices[1])
    Faults(stage.cluster, stage.world.now).trim()
    for approval in (stage.one, stage.other):
        hold(approval.lines[0].up)
    subscription.mend()
    stage.beats()
    slow = stage.with_a_held_answer()
    quick = stage.other if slow is stage.one else stage.one
    quick.lines[0].mend()
    stage.beats()  # the quick one's turn: everybody starts over
    stage.beats()  # the slow one's
    stage.enter(stage.device)
    slow.lines[0].mend()
    stage.run(0.1)


def an_approval_left_behind(stage: Stage) -> None:
    """R3: an approval still reads from a demoted master; what it says never counts.

    Where beats and questions take turns, it may be asked each time, until there is no more time.
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


def a_demoted_master(stage: Stage) -> None:
    """R2: a revoke on the new master, while a gateway's beats still reach the old one."""
    stage.pair(stage.device)
    stage.only_the_first_is_heard()
    stage.enter(stage.device)
    stage.after_a_beat()
    stage.run(0.2)
    stage.split(forget=0, moved=[stage.other])
    stage.operate("revoke", stage.device, stage.other)
    stage.calls(stage.device, 14.0)


def far_behind(stage: Stage) -> None:
    """R4: more happens than the answers to beats can tell."""
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


def news_of_two_histories(stage: Stage) -> None:
    """R5: news of a forgotten change, then of one that follows it in number only."""
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


def a_revoke_overtakes(stage: Stage) -> None:
    """R6: an answer is on its way while the news of a revoke comes in."""
    stage.pair(stage.device)
    stage.only_the_first_is_heard()
    hold(stage.one.lines[0].up)
    stage.device.connect(stage.gateway, with_token=False)
    stage.run(0.1)
    stage.other.lines[0].mend()
    stage.operate("revoke", stage.device, stage.other)
    stage.run(0.05)
    stage.one.lines[0].mend()
    stage.run(0.3)


def an_answer_of_a_forgotten_history(stage: Stage) -> None:
    """R6: an answer from a demoted master has the number of a revoke that it knows nothing of."""
    stage.pair(stage.device, stage.devices[1])
    stage.only_the_first_is_heard()
    stage.run(0.2)
    stage.operate("rename", stage.devices[1], stage.other)
    stage.split(forget=1, moved=[stage.other])
    hold(stage.one.lines[0].up)
    stage.device.connect(stage.gateway, with_token=False)
    stage.run(0.1)
    stage.other.lines[0].mend()
    stage.operate("revoke", stage.device, stage.other)
    stage.run(0.05)
    stage.one.lines[0].mend()
    stage.run(0.3)


def a_revoke_in_between(stage: Stage) -> None:
    """R6: the news of a revoke comes in after the answer was found good, before registration.

    That is a matter of milliseconds, so it is tried with one gap after another.
    """
    for gap in range(16):
        stage.pair(stage.device)
        stage.only_the_first_is_heard()
        stage.other.lines[0].mend()
        for approval in (stage.one, stage.other):
            hold(approval.lines[0].up)
        stage.device.connect(stage.gateway, with_token=False)
        stage.run(0.1)
        stage.operate("revoke", stage.device, stage.other)
        stage.world.turn_seconds = 0.01
        stage.world.after(0.08, stage.one.lines[0].mend)
        stage.world.after(0.01 * gap, stage.other.lines[0].mend)
        stage.run(0.5)
        stage.world.turn_seconds = 0.00002
        stage.run(0.5)
        if not stage.device.idle:
            stage.device.leave()
            stage.run(0.5)


def a_stopped_gateway_wakes(stage: Stage) -> None:
    """R7: frames that came while a gateway was stopped are looked at before its timers."""
    stage.pair(stage.device)
    stage.enter(stage.device)
    subscription = stage.gateway.lines[1]
    subscription.down.cut = True
    stage.gateway.process.stop()
    stage.operate("revoke", stage.device)
    stage.calls(stage.device, 12.0)
    stage.gateway.process.wake(12.0, suspended=False)
    stage.run(0.5)


def a_trimmed_log(stage: Stage) -> None:
    """R8: a revoke was missed, and the log no longer tells of it."""
    stage.pair(stage.device, stage.devices[1])
    stage.enter(stage.device)
    subscription = stage.gateway.lines[1]
    subscription.down.cut = True
    stage.operate("revoke", stage.device)
    stage.operate("rename", stage.devices[1])
    Faults(stage.cluster, stage.world.now).trim()
    stage.run(0.5)
    subscription.mend()
    stage.calls(stage.device, 12.0)


def an_answer_from_before(stage: Stage) -> None:
    """R8: an answer from before a history that was lost comes in after it."""
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
    Faults(stage.cluster, stage.world.now).trim()
    stage.operate("rename", stage.devices[1], free)
    Faults(stage.cluster, stage.world.now).trim()
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
    """R9: what does not concern a connection leaves it alone."""
    stage.pair(stage.device)
    stage.enter(stage.device)
    stage.operate("rename", stage.device)
    stage.run(0.5)


def news_above_the_head(stage: Stage) -> None:
    """R10: news of a device was heard that history has forgotten since."""
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


def a_silent_loss(stage: Stage) -> None:
    """R14: a subscription is lost, and nobody says so."""
    stage.pair(stage.device)
    stage.gateway.bus.lose(silently=True)
    stage.settle()
