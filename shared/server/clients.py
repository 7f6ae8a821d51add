"""Client addresses, and proxies whose forwarding headers are not usable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from shared.addresses.client import client_address
from shared.observability.health import Health
from shared.observability.logs import UNREADABLE_PROXY, UNTRUSTED_PROXY

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.addresses.client import ClientAddress, Headers
    from shared.settings.environment import Network

REMEMBERED_PEERS: Final = 64
"""Maximum number of proxies of each kind that are remembered and logged."""
_SHOWN_CHARACTERS: Final = 100


class Clients:
    """Determines client addresses; remembers untrusted proxies and unreadable headers.

    `on_unreadable` is called for each request whose trusted proxy sent no valid address.
    """

    def __init__(
        self, trusted: tuple[Network, ...], *, service: str, on_unreadable: Callable[[], None]
    ) -> None:
        self._trusted = trusted
        self._log = structlog.get_logger(service)
        self._on_unreadable = on_unreadable
        self._untrusted: set[str] = set()
        self._unreadable: dict[str, str] = {}
        self._logged: set[str] = set()

    @property
    def untrusted(self) -> frozenset[str]:
        """Peers whose forwarding headers were ignored because they are not in TRUSTED_PROXIES."""
        return frozenset(self._untrusted)

    @property
    def unreadable(self) -> dict[str, str]:
        """Trusted peers whose latest forwarding header was unreadable, and which header it was."""
        return dict(self._unreadable)

    def address(self, peer: str, headers: Headers) -> ClientAddress:
        """Return the address of a client; `peer` is the IP address of the other end."""
        where = client_address(peer, headers, self._trusted)
        if where.untrusted_proxy:
            self._note_untrusted(peer)
        elif where.unreadable:
            self._note_unreadable(peer, where.unreadable, headers)
        elif self._unreadable:
            self._unreadable.pop(peer, None)
        return where

    def health(self) -> Health:
        """Report proxies that are not trusted or not understood."""
        untrusted = (
            f"{peer} sends forwarding headers but is not in TRUSTED_PROXIES"
            for peer in sorted(self._untrusted)
        )
        unreadable = (
            f"{peer} sends no valid client address in {header}: all of its clients count as this "
            "proxy"
            for peer, header in sorted(self._unreadable.items())
        )
        return Health(
            ok=True,
            reason="headers are used from TRUSTED_PROXIES only",
            warnings=(*untrusted, *unreadable),
        )

    def _note_untrusted(self, peer: str) -> None:
        if peer in self._untrusted or len(self._untrusted) >= REMEMBERED_PEERS:
            return
        self._untrusted.add(peer)
        self._log.warning(
            UNTRUSTED_PROXY.name,
            peer=peer,
            advice="if this is your proxy, add its address to TRUSTED_PROXIES",
        )

    def _note_unreadable(self, peer: str, header: str, headers: Headers) -> None:
        self._on_unreadable()
        if peer in self._unreadable or len(self._unreadable) < REMEMBERED_PEERS:
            self._unreadable[peer] = header
        if peer in self._logged or len(self._logged) >= REMEMBERED_PEERS:
            return
        self._logged.add(peer)
        self._log.warning(
            UNREADABLE_PROXY.name,
            peer=peer,
            header=header,
            value=", ".join(headers.getall(header, []))[-_SHOWN_CHARACTERS:],
            advice="configure this proxy to send client addresses: all its clients count as one",
        )
