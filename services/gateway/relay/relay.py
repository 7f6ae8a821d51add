"""The relay of one gateway: what all its relayed connections share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from services.gateway.relay.opening import OpeningQueue
from services.gateway.relay.pipes import Pipes
from services.gateway.relay.rules.known_addresses import KnownAddresses

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.gateway.relay.upstream.pairing import UpstreamPairing
    from services.gateway.relay.upstream.status import Status
    from services.gateway.relay.upstream.upstream import Upstream
    from shared.clock import Clock
    from shared.rpc.reports import UpstreamState

RETRY_KNOWN_MS: Final = 100
"""Retry delay once the address is known: by then, the upstream's challenge has arrived."""
RETRY_AWAY_MS: Final = 2_000
"""Retry delay while devices cannot be connected to the upstream; clients clamp longer ones."""


class Waiting(Protocol):
    """Something that waits for the upstream until a deadline."""

    def on_timeout(self) -> None:
        """Give up waiting."""
        ...


class Relay:
    """Everything that relayed connections of this gateway share."""

    def __init__(
        self,
        upstream: Upstream,
        pairing: UpstreamPairing,
        status: Status,
        clock: Clock,
        *,
        trusts_local: bool,
    ) -> None:
        self.upstream = upstream
        self.pairing = pairing
        self.status = status
        self.counts: Final = upstream.counts
        self.openings: Final = OpeningQueue()
        self.pipes: Final = Pipes(upstream)
        self.known: Final = KnownAddresses()
        self.addresses_at_ms = 0
        """The time, on the store's clock, up to which approval has sent addresses."""
        self.joined = 0
        """How many clients are connected to the upstream."""
        self.clock: Final = clock
        self._trusts_local = trusts_local
        self._waiting: dict[Waiting, float] = {}

    @property
    def retry_after_ms(self) -> int:
        """Return the delay after which a client should retry."""
        return RETRY_AWAY_MS if self.upstream.refuses_devices else RETRY_KNOWN_MS

    def knows(self, limit_key: str, *, direct_loopback: bool) -> bool:
        """Return whether a client of this address gets an upstream socket before it is admitted."""
        if direct_loopback and self._trusts_local:
            return True
        return self.known.knows(limit_key, self.clock.monotonic())

    def learn(self, limit_keys: Iterable[str]) -> None:
        """Remember addresses from which devices were admitted or approved."""
        self.known.update(limit_keys, self.clock.monotonic())

    def on_addresses(self, limit_keys: Sequence[str], at_ms: int) -> None:
        """Learn the addresses in the answer to a heartbeat, up to a time."""
        self.learn(limit_keys)
        self.addresses_at_ms = max(self.addresses_at_ms, at_ms)

    def state(self) -> UpstreamState | None:
        """Return what this gateway knows about the state of the upstream."""
        return self.status.state()

    def on_device_closed(self, device_id: str) -> None:
        """Remove a device from the upstream that was removed or revoked, or whose token changed."""
        self.pairing.remove(device_id)

    def close_pipes(self) -> None:
        """Close all raw WebSockets to the upstream."""
        self.pipes.close_all()

    def wait(self, waiting: Waiting, seconds: float) -> None:
        """Call `on_timeout` after so many seconds, unless `stop_waiting` comes first."""
        self._waiting[waiting] = self.clock.monotonic() + seconds

    def stop_waiting(self, waiting: Waiting) -> None:
        """Cancel a wait."""
        self._waiting.pop(waiting, None)

    def sweep(self) -> None:
        """Run due tasks; called several times a second."""
        now = self.clock.monotonic()
        for waiting in [one for one, until in self._waiting.items() if until <= now]:
            del self._waiting[waiting]
            waiting.on_timeout()
        self.pairing.sweep(now)
