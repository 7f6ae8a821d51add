"""What heartbeats and the sweep need of the relay, where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.rpc.messages import UpstreamState


class RelayPort(Protocol):
    """The relay, as the rest of the gateway sees it."""

    @property
    def addresses_at_ms(self) -> int:
        """Up to which time of the store's clock it has been told addresses."""
        ...

    def state(self) -> UpstreamState | None:
        """Return how it finds the upstream."""
        ...

    def on_addresses(self, limit_keys: Sequence[str], at_ms: int) -> None:
        """Take addresses from which devices were admitted, up to a time."""
        ...

    def on_device_closed(self, device_id: str) -> None:
        """Note that a device was removed or revoked, or that its token was rotated."""
        ...

    def sweep(self) -> None:
        """Do what is due; called several times a second."""
        ...

    def close_pipes(self) -> None:
        """Close what passes raw WebSockets on."""
        ...
