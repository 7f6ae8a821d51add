"""Client addresses: the real client behind a proxy, and the key that limits count by."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from shared.addresses.forwarding import forwarded_from_the_right, from_the_right, host_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.settings.environment import Network

FORWARDING_HEADERS: Final = (
    "X-Real-IP",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "Forwarded",
    "Tailscale-User-Login",
)
"""Any of these headers shows that the request came through a proxy."""
_FORWARDING_NAMES: Final = frozenset(map(str.lower, FORWARDING_HEADERS))
_NOTHING, _PROXY, _FORWARDING = range(3)
_PROXY_PREFIXES: Final = ("x-forwarded-", "x-railway-", "x-envoy-", "tailscale-", "cf-", "fly-")
_PROXY_NAMES: Final = frozenset(
    {"via", "x-request-start", "x-client-ip", "true-client-ip", "x-cluster-client-ip"}
)
"""Other headers that proxies add: they only show that the client is not local."""

_IPV6_LIMIT_PREFIX_BITS: Final = 64
_REMEMBERED_ADDRESSES: Final = 4096
_REMEMBERED_NAMES: Final = 1024


class Headers(Protocol):
    """The part of a multidict that is used here."""

    def __contains__(self, name: object, /) -> bool:
        """Return whether the header was sent."""
        ...

    def __iter__(self) -> Iterator[str]:
        """Iterate over the header names."""
        ...

    def getall(self, name: str, default: list[str], /) -> Sequence[str]:
        """Return all values of a header."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """An address: its text, its key for per-address limits, and whether it is loopback."""

    text: str
    limit_key: str
    loopback: bool


class ClientAddress(msgspec.Struct, frozen=True, gc=False):
    """The origin of a connection.

    `direct_loopback`: this machine, without a proxy. `untrusted_proxy`: a peer outside
    TRUSTED_PROXIES sent a forwarding header, which was ignored. `unreadable`: the header of a
    trusted proxy without a valid address; then the proxy itself counts as the client.
    """

    address: Address
    direct_loopback: bool
    untrusted_proxy: bool
    unreadable: str = ""


@lru_cache(_REMEMBERED_ADDRESSES)
def parse_address(text: str) -> Address | None:
    """Parse an IP address, treating IPv4-mapped IPv6 as IPv4; None if invalid."""
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
    """Return whether an address lies in one of the trusted ranges."""
    address = ipaddress.ip_address(text)
    return any(address in network for network in trusted)


_UNKNOWN: Final = Address("unknown", "unknown", loopback=False)


@lru_cache(_REMEMBERED_ADDRESSES)
def limit_key(address: str) -> str:
    """Return the key that per-address limits count a client by: IPv6 clients by their /64."""
    parsed = parse_address(address)
    return parsed.limit_key if parsed else _UNKNOWN.limit_key


def is_loopback(address: str) -> bool:
    """Return whether an address is a loopback address."""
    parsed = parse_address(address)
    return parsed is not None and parsed.loopback


def client_address(peer: str, headers: Headers, trusted: tuple[Network, ...]) -> ClientAddress:
    """Determine a client's address from the TCP peer and the request's headers.

    From a trusted peer, a single valid X-Real-IP is used, else the last untrusted address in
    X-Forwarded-For; if neither header was sent, Forwarded by the same rule. From any other peer,
    the headers only show that the client is not local.
    """
    address = parse_address(peer) or _UNKNOWN
    shown = max(map(_shows, headers), default=_NOTHING)
    if shown != _FORWARDING:
        direct = address.loopback and shown == _NOTHING
        return ClientAddress(address, direct, untrusted_proxy=False)
    if address is _UNKNOWN or not is_trusted(address.text, trusted):
        return ClientAddress(address, direct_loopback=False, untrusted_proxy=True)
    named, unreadable = _named_client(headers, trusted)
    return ClientAddress(
        named or address, direct_loopback=False, untrusted_proxy=False, unreadable=unreadable
    )


def over_https(peer: str, headers: Headers, trusted: tuple[Network, ...]) -> bool:
    """Return whether a trusted proxy reports that its client uses https.

    X-Forwarded-Proto reports it, or `proto` of Forwarded if that is the only header.
    """
    address = parse_address(peer)
    if address is None or not is_trusted(address.text, trusted):
        return False
    protocols = headers.getall("X-Forwarded-Proto", [])
    if protocols or _values(headers, "X-Real-IP") or _values(headers, "X-Forwarded-For"):
        return protocols == ["https"]
    for element in forwarded_from_the_right(_values(headers, "Forwarded")):
        hop = _forwarded_for(element)
        if hop is None or not is_trusted(hop.text, trusted):
            return element is not None and element.get("proto", "").lower() == "https"
    return False


def _named_client(headers: Headers, trusted: tuple[Network, ...]) -> tuple[Address | None, str]:
    """Return the client that a trusted proxy names; else None and the unreadable header.

    Anything left of the last untrusted address may have been written by the client, so it is never
    read. Forwarded is ignored beside the other two headers, because proxies that set those pass it
    through.
    """
    real = _values(headers, "X-Real-IP")
    if len(real) == 1 and (found := _hop(real[0])):
        return found, ""
    lines = _values(headers, "X-Forwarded-For")
    if real or lines:
        name, hops = "X-Forwarded-For", map(_hop, from_the_right(lines))
    else:
        name, hops = (
            "Forwarded",
            map(_forwarded_for, forwarded_from_the_right(_values(headers, "Forwarded"))),
        )
    for hop in hops:
        if hop is None:
            return None, name
        if not is_trusted(hop.text, trusted):
            return hop, ""
    return None, "X-Real-IP" if real else ""


def _values(headers: Headers, name: str) -> list[str]:
    """Return the non-empty values of a header."""
    return [value for value in headers.getall(name, []) if value.strip(" \t,")]


def _forwarded_for(element: Mapping[str, str] | None) -> Address | None:
    return None if element is None else _hop(element.get("for", ""))


def _hop(node: str) -> Address | None:
    host = host_of(node)
    return parse_address(host) if host else None


@lru_cache(_REMEMBERED_NAMES)
def _shows(header: str) -> int:
    """Return what a header shows: nothing, that there is a proxy, or whom it forwards for."""
    name = header.lower()
    if name in _FORWARDING_NAMES:
        return _FORWARDING
    return _PROXY if name in _PROXY_NAMES or name.startswith(_PROXY_PREFIXES) else _NOTHING
