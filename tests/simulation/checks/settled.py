"""What must hold once all faults are over and three heartbeats have passed (I3, I4, progress).

I4  every gateway has applied exactly the store's history and remembers nothing above it; the
    store's record of its connections equals its connections; every admitted client may be admitted
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.storage.heartbeats.presence import presence_key
from services.approval.storage.keys import HEAD
from shared.rpc.messages import Position
from tests.simulation.redis.presence_script import head_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.cluster import Cluster
    from tests.simulation.redis.server import Server
    from tests.simulation.services.gateway import GatewayProcess


def check_views(cluster: Cluster) -> None:
    """Check I3 and I4."""
    twice = cluster.oracle.histories.ended_twice(cluster.server)
    if twice:
        cluster.world.violate("I3", f"request {twice} was ended more than once")
    cluster.oracle.checked["I4"] += len(cluster.gateways)
    for problem in disagreements(cluster):
        cluster.world.violate("I4", problem)


def disagreements(cluster: Cluster) -> Iterator[str]:
    """Return the differences between a gateway and the store."""
    oracle, server = cluster.oracle, cluster.server
    number, tag = head_of(server.data, HEAD)
    head = Position(number, tag.decode())
    for gateway in cluster.gateways:
        beat = gateway.beat
        if not beat.leased:
            yield f"{gateway.name} has no lease"
        if beat.applied != head:
            yield f"{gateway.name} is at change {beat.applied.number}, the store at {number}"
        above = [change.number for change in beat._memory if change.number > number]
        if above:
            yield f"{gateway.name} remembers changes {above} above head {number}"
        here, received = set(gateway.presence._here), _told(server, gateway)
        if received != here:
            yield (
                f"the store has connections {sorted(received)} of {gateway.name}: it has {sorted(here)}"
            )
    for device in cluster.devices:
        socket = device.socket
        connection = socket.transport.connection if socket else None
        if socket and socket.session and connection and not connection.closing:
            session = socket.session
            if not oracle.rights.holds_now(session):
                yield f"{device.name} is in at {socket.gateway.name} without a right"


def everybody_is_in(cluster: Cluster) -> bool:
    """Return whether every approved device is connected."""
    return all(
        device.admitted or not cluster.oracle.rights.may_serve(device.key.device_id, device.role)
        for device in cluster.devices
    )


def check_progress(cluster: Cluster) -> None:
    """Check that every approved device is connected by now."""
    for device in cluster.devices:
        cluster.oracle.checked["progress"] += 1
        allowed = cluster.oracle.rights.may_serve(device.key.device_id, device.role)
        if allowed and not device.admitted:
            text = f"{device.name} is approved and does not come in: {device.outcome or 'silence'}"
            cluster.world.violate("progress", text)


def _told(server: Server, gateway: GatewayProcess) -> set[int]:
    fields = server.data.hashes.get(presence_key(gateway.process.boot_id), {})
    return {int(field) for field in fields if field.isdecimal()}
