"""The connections between the services and Redis: blocked, slow, closed, reset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.drills.fault import Back, Fault, Hits, Promise
from tools.drills.faults.services import EACH_APPROVAL, EACH_GATEWAY
from tools.drills.stack.settings import BEYOND_LEASE_SECONDS, MOMENT_SECONDS
from tools.support.proxies.faults import Way

if TYPE_CHECKING:
    from tools.drills.fault_context import FaultContext

DELAY_SECONDS: Final = 0.1
SLOW_SECONDS: Final = 3.0


async def black_hole(context: FaultContext, name: str) -> None:
    """Block both directions, from the moment of a revocation until the lease has expired."""
    await _hold(context, name, BEYOND_LEASE_SECONDS)


async def black_hole_for_a_moment(context: FaultContext, name: str) -> None:
    """Like `black_hole`, for less than the lease."""
    await _hold(context, name, MOMENT_SECONDS)


async def hold_there(context: FaultContext, name: str) -> None:
    """Block the direction to Redis: the replica receives, but cannot send."""
    await _hold(context, name, BEYOND_LEASE_SECONDS, Way.THERE)


async def hold_back(context: FaultContext, name: str) -> None:
    """Block the direction from Redis: the replica sends, but receives nothing."""
    await _hold(context, name, BEYOND_LEASE_SECONDS, Way.BACK)


async def slow_down(context: FaultContext, _case: str) -> None:
    """Delay everything."""
    context.note(f"all links are {DELAY_SECONDS:g} s late each way")
    for link in context.stack.links.values():
        link.delay(DELAY_SECONDS)
    try:
        await context.last(SLOW_SECONDS / 2)
        context.revoke()
        await context.last(SLOW_SECONDS / 2)
        await context.revoked()
    finally:
        _pass_on(context)


async def cut(context: FaultContext, _case: str) -> None:
    """Close all links, including new ones, for a moment."""
    context.note("all links are cut")
    for link in context.stack.links.values():
        link.cut()
    await _away(context)


async def reset(context: FaultContext, _case: str) -> None:
    """Reset all links, including new ones, for a moment."""
    context.note("all links are reset")
    for link in context.stack.links.values():
        link.reset()
    await _away(context)


async def _away(context: FaultContext) -> None:
    context.revoke()
    try:
        await context.last(MOMENT_SECONDS)
    finally:
        _pass_on(context)


def _pass_on(context: FaultContext) -> None:
    for link in context.stack.links.values():
        link.pass_on()
    context.note("all links are restored")


async def _hold(context: FaultContext, name: str, seconds: float, *ways: Way) -> None:
    link = context.stack.links[name]
    link.hold(*ways)
    context.note(f"the link of {name} is held")
    context.revoke()
    try:
        await context.last(seconds)
    finally:
        link.pass_on()
        context.note(f"the link of {name} is restored")


_OTHERS_KEPT: Final = Promise(hits=Hits.TARGET, within_lease=True)
_KEPT_AND_BACK: Final = Promise(back=Back.FROM_END)

FAULTS: Final = (
    Fault(
        name="gateway's link held for a moment",
        do=black_hole_for_a_moment,
        cases=EACH_GATEWAY,
        promise=Promise(),
    ),
    Fault(
        name="gateway's link held both ways",
        do=black_hole,
        cases=EACH_GATEWAY,
        promise=_OTHERS_KEPT,
    ),
    Fault(
        name="gateway's link held on the way there",
        do=hold_there,
        cases=EACH_GATEWAY[:1],
        promise=_OTHERS_KEPT,
    ),
    Fault(
        name="gateway's link held on the way back",
        do=hold_back,
        cases=EACH_GATEWAY[1:2],
        promise=_OTHERS_KEPT,
    ),
    Fault(
        name="approval's link held both ways",
        do=black_hole,
        cases=EACH_APPROVAL,
        promise=Promise(),
    ),
    Fault(
        name="approval's link held on the way there",
        do=hold_there,
        cases=EACH_APPROVAL[:1],
        promise=Promise(),
    ),
    Fault(
        name="approval's link held on the way back",
        do=hold_back,
        cases=EACH_APPROVAL[1:],
        promise=Promise(),
    ),
    Fault(name="all links slow", do=slow_down, promise=Promise()),
    Fault(name="all links cut", do=cut, promise=_KEPT_AND_BACK),
    Fault(name="all links reset", do=reset, promise=_KEPT_AND_BACK),
)
