"""The holders of pending requests: a full list makes room at the expense of the largest. Pure.

A request counts for its IPv4 address, or for its IPv6 /64 and the /56 and /48 around it: any of
these may belong to a single customer. If the list is full, a new request displaces the oldest
one of the holder with the most: first among IPv4 addresses and /48s, then among the /56s of that
/48, then among their /64s. Requests of paired devices go last.

A holder gives way only if it keeps at least as many requests as the newcomer's then has; otherwise
the newcomer displaces its own oldest. So a holder's only request is never displaced by others, and
when every holder has just one, a newcomer from elsewhere is refused.
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
    """Return the holders of a request that is counted by this limit key, the largest first."""
    try:
        network = ipaddress.IPv6Network(limit_key)
    except ValueError:
        return (limit_key,)
    if network.prefixlen != ipaddress.IPV6LENGTH // 2:
        return (limit_key,)
    around = (str(network.supernet(new_prefix=bits)) for bits in PREFIXES_BITS)
    return (*around, limit_key)
