"""Which addresses a webhook may connect to unless private ones are enabled. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PROTOCOL_ASSIGNMENTS: Final = ipaddress.IPv4Network("192.0.0.0/24")
"""Releases of Python disagree about single addresses in it."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")


def is_public(text: str) -> bool:
    """Return whether an address is a public unicast address; an invalid one is not.

    Addresses that carry an IPv4 address (IPv4-mapped, NAT64, 6to4, Teredo) are public only if that
    one is, too: they may lead to it.
    """
    try:
        address: _Address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return _is_public_v4(address)
    carried = _carried(address)
    if carried is None:
        return _is_public_v6(address)
    return all(map(_is_public_v4, carried))


def _carried(address: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...] | None:
    """Return the IPv4 addresses that an IPv6 address stands for; None if it is not of that kind."""
    for one in (address.ipv4_mapped, address.sixtofour):
        if one is not None:
            return (one,)
    if address.teredo is not None:
        return address.teredo
    return (ipaddress.IPv4Address(address.packed[-4:]),) if address in _NAT64 else None


def _is_public_v4(address: ipaddress.IPv4Address) -> bool:
    special = address.is_multicast or address in _PROTOCOL_ASSIGNMENTS
    return address.is_global and not special


def _is_public_v6(address: ipaddress.IPv6Address) -> bool:
    unscoped = address.scope_id is None
    return unscoped and address in _GLOBAL_UNICAST and address.is_global
