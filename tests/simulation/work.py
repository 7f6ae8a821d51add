"""What people and devices do while faults happen, drawn from the seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

    from tests.simulation.cluster import Cluster
    from tests.simulation.services.approval import ApprovalProcess
    from tests.simulation.services.devices import Device

    Act = Callable[[], Coroutine[Any, Any, None]]

DEVICE_SECONDS: Final = 0.4
"""The mean time until some device acts."""
OPERATOR_SECONDS: Final = 0.9
"""The mean time until some operator acts."""

CALLER_SECONDS: Final = 0.5
"""The mean time until an authorized connected device calls a device method."""
APPROVES_SHARE: Final = 0.7
"""The share of its calls that approve a request, if it knows of a pending one."""
METHODS: Final = (
    "device.pair.list",
    "device.pair.remove",
    "device.token.rotate",
    "device.token.revoke",
)

MEETING_SHARE: Final = 0.2
"""The share of connects and calls during which an operator changes the device."""
MEETING_SECONDS: Final = 0.06
"""The maximum delay of that change."""


class Work:
    """Draws actions until a moment of the world's time."""

    def __init__(self, cluster: Cluster, until: float) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._random: Random = cluster.world.random
        self._until = until
        self._calls = 0

    def start(self) -> None:
        """Begin."""
        self._world.after(0.0, self._device_acts)
        self._world.after(0.0, self._operator_acts)
        self._world.after(0.0, self._caller_acts)

    def _device_acts(self) -> None:
        if self._world.now >= self._until:
            return
        self._world.after(self._random.expovariate(1 / DEVICE_SECONDS), self._device_acts)
        device = self._random.choice(self._cluster.devices)
        gateways = [gateway for gateway in self._cluster.gateways if not gateway.process.gone]
        if device.idle and gateways:
            gateway = self._random.choice(gateways)
            device.connect(gateway, with_token=self._random.random() < 0.4)
            self._perhaps_met(device)
        elif self._random.random() < 0.8:
            device.call()
        else:
            device.leave()

    def _caller_acts(self) -> None:
        """Have a device call a device method; an operator may change it meanwhile."""
        if self._world.now >= self._until:
            return
        self._world.after(self._random.expovariate(1 / CALLER_SECONDS), self._caller_acts)
        callers = [
            device for device in self._cluster.devices if device.operates and device.admitted
        ]
        if callers:
            self._operates(self._random.choice(callers))

    def _operates(self, device: Device) -> None:
        method = self._random.choice(METHODS)
        other = self._random.choice(self._cluster.devices)
        if device.waiting and self._random.random() < APPROVES_SHARE:
            request_id = self._random.choice(device.waiting)
            device.operate("device.pair.approve", requestId=request_id)
        elif method == "device.pair.list":
            device.operate(method)
        elif method == "device.pair.remove":
            device.operate(method, deviceId=other.key.device_id)
        else:
            device.operate(method, deviceId=other.key.device_id, role=other.role)
        self._perhaps_met(device)

    def _perhaps_met(self, device: Device) -> None:
        if self._random.random() < MEETING_SHARE:
            self._world.after(self._random.uniform(0.0, MEETING_SECONDS), self._meets, device)

    def _meets(self, device: Device) -> None:
        """Have an operator change a device while it connects or calls."""
        approvals = [approval for approval in self._cluster.approvals if not approval.process.gone]
        if approvals:
            action = self._random.choice(("rotate", "revoke", "remove"))
            self.change(self._random.choice(approvals), action, device)

    def _operator_acts(self) -> None:
        if self._world.now >= self._until:
            return
        self._world.after(self._random.expovariate(1 / OPERATOR_SECONDS), self._operator_acts)
        approvals = [approval for approval in self._cluster.approvals if not approval.process.gone]
        if approvals:
            approval = self._random.choice(approvals)
            device = self._random.choice(self._cluster.devices)
            if self._random.random() < 0.6:
                self.decide(approval, reject=self._random.random() < 0.1)
            else:
                action = self._random.choice(("remove", "rotate", "revoke", "rename"))
                self.change(approval, action, device)

    def decide(self, approval: ApprovalProcess, *, reject: bool = False) -> None:
        """Have an operator approve or reject all pending requests."""

        async def act() -> None:
            registry = approval.registry
            for waiting in await registry.pending(OPERATOR):
                request_id = waiting.pending.request_id
                if reject:
                    await registry.reject(OPERATOR, request_id)
                else:
                    await registry.approve(OPERATOR, request_id)

        self._do(approval, "reject what waits" if reject else "approve what waits", act)

    def change(self, approval: ApprovalProcess, action: str, device: Device) -> None:
        """Have an operator change a paired device."""
        registry, device_id = approval.registry, device.key.device_id

        async def act() -> None:
            if action == "remove":
                await registry.remove(OPERATOR, device_id)
            elif action == "rotate":
                await registry.rotate(OPERATOR, device_id, device.role)
            elif action == "revoke":
                await registry.revoke(OPERATOR, device_id, device.role)
            else:
                self._calls += 1
                await registry.rename(OPERATOR, device_id, f"label {self._calls}")

        self._do(approval, f"{action} {device.name}", act)

    def _do(self, approval: ApprovalProcess, description: str, act: Act) -> None:
        async def acting() -> None:
            text = "done"
            try:
                await act()
            except RegistryError as error:
                text = type(error).__name__
            self._world.story.tell("operator", f"{description} at {approval.name}: {text}")

        approval.process.receive(
            lambda: approval.process.start(acting(), f"operator: {description}")
        )
