"""The holders of what is shared by all clients: pending requests, and places for sockets. Pure.

Each counts for its client's IPv4 address, or for its IPv6 /64 and the /56 and /48 around it: any of
these may belong to a single customer. If there is no room, a newcomer displaces the oldest of
the holder with the most: first among IPv4 addresses and /48s, then among the /56s of that /48, then
among their /64s. What paired devices hold goes last, or never.

A holder gives way only if it keeps at least as many as the newcomer's then has; otherwise the
newcomer displaces its own oldest. So a holder's only one is never displaced by others.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

PREFIXES_BITS: Final = (48, 56)
"""Networks around a /64 that count as holders; `pending.lua` knows them by these lengths."""
_REMEMBERED_ADDRESSES: Final = 4_096


@lru_cache(_REMEMBERED_ADDRESSES)
def holders(limit_key: str) -> tuple[str, ...]:
    """Return the holders that a limit key counts for, the largest first."""
    if "/" not in limit_key:
        return (limit_key,)
    try:
        network = ipaddress.IPv6Network(limit_key)
    except ValueError:
        return (limit_key,)
    if network.prefixlen != ipaddress.IPV6LENGTH // 2:
        return (limit_key,)
    around = (str(network.supernet(new_prefix=bits)) for bits in PREFIXES_BITS)
    return (*around, limit_key)
