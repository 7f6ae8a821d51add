"""Gateways and approvals that are killed, terminated, or paused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.drills.fault import Fault, Hits, Promise
from tools.drills.settings import APPROVALS, BEYOND_LEASE_SECONDS, GATEWAYS, MOMENT_SECONDS

if TYPE_CHECKING:
    from tools.drills.scene import Scene

EACH_GATEWAY: Final = tuple(f"gateway-{number}" for number in range(1, GATEWAYS + 1))
EACH_APPROVAL: Final = tuple(f"approval-{number}" for number in range(1, APPROVALS + 1))


async def kill(scene: Scene, name: str) -> None:
    """Kill a service as a crash does, and restart it after a while."""
    service = scene.house.service(name)
    scene.revoke()
    scene.note(f"{name} is killed (-9)")
    service.kill9()
    await scene.last(MOMENT_SECONDS)
    service.start()
    scene.note(f"{name} is started")


async def terminate(scene: Scene, name: str) -> None:
    """Terminate a service as a deployment does, and restart it."""
    service = scene.house.service(name)
    scene.revoke()
    scene.note(f"{name} is stopped (SIGTERM)")
    service.terminate()
    await service.until_ended()
    service.start()
    scene.note(f"{name} is started")


async def stop_for_a_moment(scene: Scene, name: str) -> None:
    """Pause a service and resume it before its lease expires."""
    scene.revoke()
    await scene.freeze(name, MOMENT_SECONDS)


async def stop_beyond_lease(scene: Scene, name: str) -> None:
    """Pause a service until its lease has expired."""
    scene.revoke()
    await scene.freeze(name, BEYOND_LEASE_SECONDS)


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
