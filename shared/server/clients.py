"""Where clients come from, and which proxies say so in a way that does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from shared.addresses import client_address
from shared.observability.health import Health
from shared.observability.logs import UNREADABLE_PROXY, UNTRUSTED_PROXY

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.addresses import ClientAddress, Headers
    from shared.settings import Network

REMEMBERED_PEERS: Final = 64
"""How many proxies of each kind are remembered, and logged."""
_SHOWN_CHARACTERS: Final = 100


class Clients:
    """Finds out the address of clients; remembers proxies that are not trusted or not understood.

    `on_unreadable` hears of each request whose trusted proxy named no address.
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
        """Peers whose forwarding headers were ignored; TRUSTED_PROXIES would mend it."""
        return frozenset(self._untrusted)

    @property
    def unreadable(self) -> dict[str, str]:
        """Trusted peers whose last word on a client could not be read, and in which header."""
        return dict(self._unreadable)

    def address(self, peer: str, headers: Headers) -> ClientAddress:
        """Say where a client comes from; `peer` is the IP address of the other end."""
        where = client_address(peer, headers, self._trusted)
        if where.untrusted_proxy:
            self._note_untrusted(peer)
        elif where.unreadable:
            self._note_unreadable(peer, where.unreadable, headers)
        elif self._unreadable:
            self._unreadable.pop(peer, None)
        return where

    def health(self) -> Health:
        """Say which proxies are not believed, or not understood."""
        untrusted = (
            f"{peer} sends forwarding headers but is not in TRUSTED_PROXIES"
            for peer in sorted(self._untrusted)
        )
        unreadable = (
            f"{peer} names its clients in {header} so that no address can be read: all of them "
            "count as this proxy"
            for peer, header in sorted(self._unreadable.items())
        )
        return Health(
            ok=True,
            reason="headers count from TRUSTED_PROXIES only",
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
            advice="let this proxy send the address of its client: all its clients count as one",
        )
