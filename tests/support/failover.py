"""A failover of Redis: another server becomes the master, and connections lead there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.support.processes.redis import RedisServer
    from tools.support.proxies.faults import FaultProxy


def fail_over(old: RedisServer, new: RedisServer, proxy: FaultProxy) -> None:
    """Make the other server the master for new connections."""
    new.lead()
    old.follow(new)
    proxy.lead_to(new.port)
