"""What must hold once all faults are over and three beats have passed (I3, I4, progress).

I4  every gateway has applied exactly the store's history, remembers nothing above it, and what the
    store says of its connections is what it has; whoever is in may be in
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.presence import presence_key
from services.approval.store import HEAD
from shared.messages import Change
from tests.simulation.telling import head_of

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.gateway import GatewayProcess


def check_views(cluster: Cluster) -> None:
    """Check I3 and I4."""
    world, oracle, server = cluster.world, cluster.oracle, cluster.server
    number, tag = head_of(server.data, HEAD)
    head = Change(number, tag.decode())
    twice = oracle.histories.ended_twice(server)
    if twice:
        world.violate("I3", f"request {twice} was ended more than once")
    for gateway in cluster.gateways:
        oracle.checked["I4"] += 1
        beat = gateway.beat
        if not beat.leased:
            world.violate("I4", f"{gateway.name} has no lease")
        if beat.applied != head:
            world.violate(
                "I4", f"{gateway.name} is at change {beat.applied.number}, the store at {number}"
            )
        above = [change.number for change in beat._memory if change.number > number]
        if above:
            world.violate("I4", f"{gateway.name} remembers changes {above} above head {number}")
        _check_presence(cluster, gateway)
    for device in cluster.devices:
        socket = device.socket
        connection = socket.transport.connection if socket else None
        if socket and socket.session and connection and not connection.closing:
            session = socket.session
            if not oracle.holds_now(session):
                world.violate("I4", f"{device.name} is in at {socket.gateway.name} without a right")


def check_progress(cluster: Cluster) -> None:
    """Check that whoever is approved is in by now."""
    for device in cluster.devices:
        cluster.oracle.checked["progress"] += 1
        allowed = cluster.oracle.may_serve(device.key.device_id, device.role)
        if allowed and not device.admitted:
            text = f"{device.name} is approved and does not come in: {device.outcome or 'silence'}"
            cluster.world.violate("progress", text)


def _check_presence(cluster: Cluster, gateway: GatewayProcess) -> None:
    here = set(gateway.presence._here)
    fields = cluster.server.data.hashes.get(presence_key(gateway.process.boot_id), {})
    told = {int(field) for field in fields if field.isdecimal()}
    if told != here:
        cluster.world.violate(
            "I4",
            f"the store has connections {sorted(told)} of {gateway.name}: it has {sorted(here)}",
        )
