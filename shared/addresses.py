"""Client addresses: who is really there behind a proxy, and the key that limits count by."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from shared.forwarding import forwarded_from_the_right, from_the_right, host_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.settings import Network

FORWARDING_HEADERS: Final = (
    "X-Real-IP",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "Forwarded",
    "Tailscale-User-Login",
)
"""Any of these says that a proxy stands between the client and us."""
_PROXY_PREFIXES: Final = ("x-forwarded-", "x-railway-", "x-envoy-", "tailscale-", "cf-", "fly-")
_PROXY_NAMES: Final = frozenset(
    {"via", "x-request-start", "x-client-ip", "true-client-ip", "x-cluster-client-ip"}
)
"""What else proxies add: it says nothing of the client that counts, but that it is not here."""

_IPV6_LIMIT_PREFIX_BITS: Final = 64
_REMEMBERED_ADDRESSES: Final = 4096
_REMEMBERED_NAMES: Final = 1024


class Headers(Protocol):
    """The part of a multidict that is used here."""

    def __contains__(self, name: object, /) -> bool:
        """Say whether the header was sent."""
        ...

    def __iter__(self) -> Iterator[str]:
        """Go through the names of the headers."""
        ...

    def getall(self, name: str, default: list[str], /) -> Sequence[str]:
        """Return all values of a header."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """One address: as text, as the key of per-address limits, and whether it is this machine."""

    text: str
    limit_key: str
    loopback: bool


class ClientAddress(msgspec.Struct, frozen=True, gc=False):
    """Where a client comes from.

    `direct_loopback`: this machine, with no proxy between. `untrusted_proxy`: a forwarding header
    came from a peer outside TRUSTED_PROXIES and was ignored. `unreadable`: the header of a trusted
    proxy that names no address, so that the proxy itself stands for its client.
    """

    address: Address
    direct_loopback: bool
    untrusted_proxy: bool
    unreadable: str = ""


@lru_cache(_REMEMBERED_ADDRESSES)
def parse_address(text: str) -> Address | None:
    """Parse an IP address; IPv4 inside IPv6 counts as IPv4. None if it is none."""
    try:
        parsed = ipaddress.ip_address(text.strip().split("%", 1)[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return Address(str(parsed), str(parsed), loopback=True)
    if isinstance(parsed, ipaddress.IPv6Address):
        network = ipaddress.ip_network((parsed, _IPV6_LIMIT_PREFIX_BITS), strict=False)
        return Address(str(parsed), str(network), loopback=False)
    return Address(str(parsed), str(parsed), loopback=False)


@lru_cache(_REMEMBERED_ADDRESSES)
def is_trusted(text: str, trusted: tuple[Network, ...]) -> bool:
    """Say whether an address lies in one of the ranges."""
    address = ipaddress.ip_address(text)
    return any(address in network for network in trusted)


_UNKNOWN: Final = Address("unknown", "unknown", loopback=False)


def limit_key(address: str) -> str:
    """Return the key that per-address limits count a client by: an IPv6 client by its /64."""
    parsed = parse_address(address)
    return parsed.limit_key if parsed else _UNKNOWN.limit_key


def is_loopback(address: str) -> bool:
    """Say whether an address is this machine's own."""
    parsed = parse_address(address)
    return parsed is not None and parsed.loopback


def client_address(peer: str, headers: Headers, trusted: tuple[Network, ...]) -> ClientAddress:
    """Say where a client comes from, given the TCP peer and the request's headers.

    From a trusted peer, one sound X-Real-IP counts, else the last address of X-Forwarded-For that
    is not itself trusted; Forwarded, by the same rule, where neither of them was sent. From anybody
    else, headers count for nothing but ending loopback trust.
    """
    address = parse_address(peer) or _UNKNOWN
    if not any(map(headers.__contains__, FORWARDING_HEADERS)):
        direct = address.loopback and not any(map(_of_a_proxy, headers))
        return ClientAddress(address, direct, untrusted_proxy=False)
    if address is _UNKNOWN or not is_trusted(address.text, trusted):
        return ClientAddress(address, direct_loopback=False, untrusted_proxy=True)
    named, unreadable = _named_client(headers, trusted)
    return ClientAddress(
        named or address, direct_loopback=False, untrusted_proxy=False, unreadable=unreadable
    )


def over_https(peer: str, headers: Headers, trusted: tuple[Network, ...]) -> bool:
    """Say whether a trusted proxy tells that its client came over https.

    X-Forwarded-Proto says so, or `proto` of Forwarded where that is the only header.
    """
    address = parse_address(peer)
    if address is None or not is_trusted(address.text, trusted):
        return False
    said = headers.getall("X-Forwarded-Proto", [])
    if said or _sent(headers, "X-Real-IP") or _sent(headers, "X-Forwarded-For"):
        return said == ["https"]
    for element in forwarded_from_the_right(_sent(headers, "Forwarded")):
        hop = _for(element)
        if hop is None or not is_trusted(hop.text, trusted):
            return element is not None and element.get("proto", "").lower() == "https"
    return False


def _named_client(headers: Headers, trusted: tuple[Network, ...]) -> tuple[Address | None, str]:
    """Return the client that a trusted proxy names; else None, and which header can't be read.

    What stands left of the last address that is not trusted may be the client's own words: it is
    never read. Nor is Forwarded beside the other two, which proxies that set those pass through.
    """
    real = _sent(headers, "X-Real-IP")
    if len(real) == 1 and (found := _hop(real[0])):
        return found, ""
    lines = _sent(headers, "X-Forwarded-For")
    if real or lines:
        name, hops = "X-Forwarded-For", map(_hop, from_the_right(lines))
    else:
        name, hops = "Forwarded", map(_for, forwarded_from_the_right(_sent(headers, "Forwarded")))
    for hop in hops:
        if hop is None:
            return None, name
        if not is_trusted(hop.text, trusted):
            return hop, ""
    return None, "X-Real-IP" if real else ""


def _sent(headers: Headers, name: str) -> list[str]:
    """Return the values of a header that say anything."""
    return [value for value in headers.getall(name, []) if value.strip(" \t,")]


def _for(element: Mapping[str, str] | None) -> Address | None:
    return None if element is None else _hop(element.get("for", ""))


def _hop(node: str) -> Address | None:
    host = host_of(node)
    return parse_address(host) if host else None


@lru_cache(_REMEMBERED_NAMES)
def _of_a_proxy(header: str) -> bool:
    name = header.lower()
    return name in _PROXY_NAMES or name.startswith(_PROXY_PREFIXES)
