"""Three gateways, two approvals, one Redis and its successors, and five devices around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.checks.oracle import Oracle
from tests.simulation.redis.server import Server
from tests.simulation.services.approval import ApprovalProcess
from tests.simulation.services.devices import Device
from tests.simulation.services.gateway import GatewayProcess

if TYPE_CHECKING:
    from tests.simulation.engine.world import World
    from tests.simulation.mutants.rules import Variant

Member = GatewayProcess | ApprovalProcess


class Cluster:
    """Everything in a world; a process that was killed is replaced in its list."""

    def __init__(
        self,
        world: World,
        variant: Variant,
        *,
        gateways: int = 3,
        approvals: int = 2,
        devices: int = 5,
        changes_limit: int = 256,
        lease_seconds: float = 10.0,
    ) -> None:
        self.world = world
        self.variant = variant
        self.server = Server(world, "A", variant.scripts(changes_limit))
        self.oracle = Oracle(world, self.server, lease_seconds)
        self.gateways = [self._gateway(f"gateway {n}") for n in range(1, gateways + 1)]
        self.approvals = [self._approval(f"approval {n}") for n in range(1, approvals + 1)]
        self.devices = [Device(world, self.oracle, n) for n in range(1, devices + 1)]
        for device in self.devices:
            self.oracle.name(device.key.device_id, device.name)

    @property
    def members(self) -> list[Member]:
        """All processes that were not killed."""
        everybody: list[Member] = [*self.gateways, *self.approvals]
        return [item for item in everybody if not item.process.gone]

    def restart(self, member: Member) -> None:
        """Start a new process in place of one that was killed."""
        self.world.story.tell(member.name, "starts again")
        if isinstance(member, GatewayProcess):
            self.gateways[self.gateways.index(member)] = self._gateway(member.name)
        else:
            self.approvals[self.approvals.index(member)] = self._approval(member.name)

    def kill(self, member: Member) -> None:
        """End a process; its clients lose their sockets, its subscriptions end."""
        self.world.story.tell(member.name, "is killed")
        member.process.kill()
        member.bus.lose(silently=True)
        for device in self.devices:
            socket = device.socket
            if socket is not None and socket.gateway is member:
                self.oracle.ended(socket)
                self.world.after(0.002, device.lost, socket)

    def _gateway(self, name: str) -> GatewayProcess:
        return GatewayProcess(self.world, name, self.server, self.oracle, self.variant)

    def _approval(self, name: str) -> ApprovalProcess:
        return ApprovalProcess(self.world, name, self.server, self.variant)
