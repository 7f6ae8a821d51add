"""What has to be notified of what a poll has found. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.approval.domain.lockout import LOCK_MS
from services.approval.notifications import event as events
from services.approval.storage.webhooks import DROPPED_FIRST, KEPT

if TYPE_CHECKING:
    from services.approval.notifications.event import Event
    from services.approval.storage.webhooks import Poll
    from shared.rpc.messages import Position


class Collected(NamedTuple):
    """Notifications to queue, and how far they reach. `moved`: the position has to be recorded."""

    events: list[Event]
    reached: Position
    lockouts_ms: int
    moved: bool


def collect(poll: Poll, last: Position | None) -> Collected:
    """Return what has to be queued.

    `last`: the position that this process has seen before, whoever held the lease. If Redis knows
    less than that, it has lost history: data, position and queues alike.
    """
    found: list[Event] = []
    reached, changes = poll.reached, poll.changes
    lost_position = last is not None and last.number > 0 and poll.at.number < last.number
    if lost_position or _is_ahead(poll):
        found.append(events.of_lost_history(f"{poll.lease} {last} {poll.at}", poll.now_ms))
        if poll.head is not None and _is_ahead(poll):
            reached = poll.head
    elif _is_gap(poll):
        found.append(events.of_missed(f"{poll.lease} {poll.at}", poll.now_ms, 0))
    for change in changes:
        if change.change == poll.at:
            continue
        audited = poll.entries.get(change.change.number)
        same = audited is not None and audited.change == change.change
        event = events.of_change(change, audited.entry if audited is not None and same else None)
        if event is not None:
            found.append(event)
    lockouts_ms = poll.lockouts_ms
    for one in poll.lockouts:
        lockouts_ms = max(lockouts_ms, one.until_ms)
        found.append(
            events.of_lockout(one.credential, one.address, until_ms=one.until_ms, lasts_ms=LOCK_MS)
        )
    moved = reached != poll.at or lockouts_ms != poll.lockouts_ms or bool(found)
    return Collected(found, reached, lockouts_ms, moved)


def member_of(event: Event) -> bytes:
    """Return an event as a member of the queue."""
    prefix = DROPPED_FIRST if event.type == events.WAITING else KEPT
    return prefix.encode() + events.encode(event)


def _is_ahead(poll: Poll) -> bool:
    """Return whether the position is that of a history which Redis no longer has."""
    if poll.changes or poll.unreadable or poll.head is None:
        return False
    return poll.head.number < poll.at.number


def _is_gap(poll: Poll) -> bool:
    """Return whether changes after the position are no longer in the log.

    A new history begins with a change that is notified itself.
    """
    if not poll.changes or poll.unreadable:
        return False
    first = poll.changes[0]
    follows = first.change == poll.at or (not poll.at.number and first.change.number == 1)
    return not follows and first.kind != "history-lost"
