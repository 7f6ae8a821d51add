"""The interface of the relay that heartbeats and the sweep use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.rpc.reports import UpstreamState


class RelayPort(Protocol):
    """The relay as seen by the rest of the gateway."""

    @property
    def addresses_at_ms(self) -> int:
        """The time, on the store's clock, up to which it has received addresses."""
        ...

    def state(self) -> UpstreamState | None:
        """Return what it knows about the state of the upstream."""
        ...

    def on_addresses(self, limit_keys: Sequence[str], at_ms: int) -> None:
        """Learn the addresses from which devices were admitted up to a time."""
        ...

    def on_device_closed(self, device_id: str) -> None:
        """Handle a device that was removed or revoked, or whose token was rotated."""
        ...

    def sweep(self) -> None:
        """Run due tasks; called several times a second."""
        ...

    def close_pipes(self) -> None:
        """Close the forwarded raw WebSockets."""
        ...
