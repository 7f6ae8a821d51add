"""Gateways and approvals that are killed, terminated, or paused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.drills.fault import Fault, Hits, Promise
from tools.drills.stack.settings import APPROVALS, BEYOND_LEASE_SECONDS, GATEWAYS, MOMENT_SECONDS

if TYPE_CHECKING:
    from tools.drills.fault_context import FaultContext

EACH_GATEWAY: Final = tuple(f"gateway-{number}" for number in range(1, GATEWAYS + 1))
EACH_APPROVAL: Final = tuple(f"approval-{number}" for number in range(1, APPROVALS + 1))


async def kill(context: FaultContext, name: str) -> None:
    """Kill a service as a crash does, and restart it after a while."""
    service = context.stack.service(name)
    context.revoke()
    context.note(f"{name} is killed (-9)")
    service.kill9()
    await context.last(MOMENT_SECONDS)
    service.start()
    context.note(f"{name} is started")


async def terminate(context: FaultContext, name: str) -> None:
    """Terminate a service as a deployment does, and restart it."""
    service = context.stack.service(name)
    context.revoke()
    context.note(f"{name} is stopped (SIGTERM)")
    service.terminate()
    await service.until_ended()
    service.start()
    context.note(f"{name} is started")


async def stop_for_a_moment(context: FaultContext, name: str) -> None:
    """Pause a service and resume it before its lease expires."""
    context.revoke()
    await context.freeze(name, MOMENT_SECONDS)


async def stop_beyond_lease(context: FaultContext, name: str) -> None:
    """Pause a service until its lease has expired."""
    context.revoke()
    await context.freeze(name, BEYOND_LEASE_SECONDS)


_OTHERS_KEPT: Final = Promise(hits=Hits.TARGET)

FAULTS: Final = (
    Fault(name="gateway killed (-9)", do=kill, cases=EACH_GATEWAY, promise=_OTHERS_KEPT),
    Fault(name="gateway ended (SIGTERM)", do=terminate, cases=EACH_GATEWAY, promise=_OTHERS_KEPT),
    Fault(
        name="gateway stopped for a moment",
        do=stop_for_a_moment,
        cases=EACH_GATEWAY,
        promise=Promise(),
    ),
    Fault(
        name="gateway stopped beyond its lease",
        do=stop_beyond_lease,
        cases=EACH_GATEWAY,
        promise=Promise(hits=Hits.TARGET, within_lease=True),
    ),
    Fault(name="approval killed (-9)", do=kill, cases=EACH_APPROVAL, promise=Promise()),
    Fault(name="approval ended (SIGTERM)", do=terminate, cases=EACH_APPROVAL, promise=Promise()),
    Fault(
        name="approval stopped beyond the lease",
        do=stop_beyond_lease,
        cases=EACH_APPROVAL,
        promise=Promise(),
    ),
)
