"""Decides which WebSockets become pipes to the upstream, and opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from services.gateway.dashboard.paths import below
from services.gateway.handshake.origin import origin_problem
from services.gateway.http.upgrade_request import UpgradeProblem
from services.gateway.relay.rules.headers import ForwardedClient
from services.gateway.relay.rules.http import SocketRoute, socket_route_of
from shared.addresses.client import over_https
from shared.bus.errors import Unavailable

if TYPE_CHECKING:
    import asyncio

    from multidict import CIMultiDict, CIMultiDictProxy

    from services.gateway.relay.relay import Relay
    from services.gateway.session.context import SessionContext
    from shared.addresses.client import ClientAddress
    from shared.settings.environment import Network

    Headers = CIMultiDict[str] | CIMultiDictProxy[str]

NOWHERE: Final = UpgradeProblem("Not Found", 404)
UNKNOWN_ADDRESS: Final = UpgradeProblem(
    "This is for addresses from which a device was admitted lately", 403
)
FOREIGN_PAGE: Final = UpgradeProblem("This page may not use the gateway", 403)
UNDECIDED: Final = UpgradeProblem("Nobody can say who may connect", 503)
NO_ROOM: Final = UpgradeProblem("Too many WebSockets", 503)


class Upgrade(NamedTuple):
    """A valid request for a WebSocket: its peer, its target and its client address."""

    peer: str
    target: str
    headers: Headers
    where: ClientAddress


class PipeDoor:
    """Accepts the WebSockets that do not speak the gateway protocol."""

    def __init__(
        self,
        host: SessionContext,
        relay: Relay,
        *,
        trusted_proxies: tuple[Network, ...],
        prefix: str,
    ) -> None:
        self._host = host
        self._relay = relay
        self._trusted_proxies = trusted_proxies
        self._prefix = prefix

    def is_for(self, target: str) -> bool:
        """Return whether a WebSocket for a target does not speak the gateway protocol."""
        return self._route(target) is not SocketRoute.GATEWAY

    def problem(self, upgrade: Upgrade) -> UpgradeProblem | None:
        """Return why a WebSocket is not forwarded, or None."""
        host, headers, where = self._host, upgrade.headers, upgrade.where
        if self._route(upgrade.target) is not SocketRoute.PIPE:
            return NOWHERE
        limit_key = where.address.limit_key
        if not self._relay.knows(limit_key, direct_loopback=where.direct_loopback):
            return UNKNOWN_ADDRESS
        origin = headers.get("Origin")
        if origin is not None and origin_problem(
            origin,
            headers.get("Host", ""),
            host.auth.allowed_origins,
            direct_loopback=where.direct_loopback,
        ):
            return FOREIGN_PAGE
        try:
            host.approvals.require_lease()
        except Unavailable:
            return UNDECIDED
        has_room = not host.connections.draining and self._relay.pipes.has_room_for(limit_key)
        return None if has_room else NO_ROOM

    def open(self, transport: asyncio.Transport, upgrade: Upgrade) -> asyncio.Protocol | None:
        """Start forwarding a WebSocket; None if there is a problem."""
        if self.problem(upgrade) is not None:
            return None
        where, headers = upgrade.where, upgrade.headers
        client = ForwardedClient(
            address=where.address.text,
            loopback=where.address.loopback,
            secure=over_https(upgrade.peer, headers, self._trusted_proxies),
            host=headers.get("Host", ""),
            origin=headers.get("Origin"),
        )
        path, query = self._parted(upgrade.target)
        return self._relay.pipes.open(
            transport, where.address.limit_key, path + query, headers, client
        )

    def _route(self, target: str) -> SocketRoute:
        return socket_route_of(self._parted(target)[0])

    def _parted(self, target: str) -> tuple[str, str]:
        """Split a target into its path, without the gateway's prefix, and its query with `?`."""
        path, mark, query = target.partition("?")
        return below(path, self._prefix), mark + query
