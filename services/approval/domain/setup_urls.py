"""The gateway's address in a setup code: its normal form, and what plain `ws://` permits. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from services.approval.domain.errors import InsecureGatewayUrl, InvalidGatewayUrl, NoJoinUrl

URL_LIMIT_CHARACTERS: Final = 1_024
"""Max. length of a gateway's address; a QR code with a longer one could hardly be scanned."""
JOIN_PATH: Final = "/j/"
"""Path of a join URL at the gateway, below its base path; the short code follows."""

_SCHEMES: Final = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
_PLAIN_NETWORKS: Final = tuple(
    ipaddress.ip_network(one)
    for one in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Networks in which plain `ws://` is accepted, with limited access."""


class GatewayUrl(NamedTuple):
    """A gateway's address in normal form. `is_private`: plain `ws://` on a local network."""

    url: str
    is_private: bool
    host: str

    def join_url(self, short_code: str) -> str:
        """Return the join URL below this address; raises NoJoinUrl on a plain local network."""
        if self.is_private:
            raise NoJoinUrl
        scheme, rest = self.url.split("://", 1)
        return f"{'https' if scheme == 'wss' else 'http'}://{rest}{JOIN_PATH}{short_code}"


def gateway_url(text: str, source: str) -> GatewayUrl:
    """Return an address in the normal form that clients require.

    Raises InvalidGatewayUrl, and InsecureGatewayUrl for plain `ws://` to a public host: on the way
    there the code could be read, and used, by others. `source` names where the address comes from.
    """
    given = text.strip()
    if "://" not in given:
        given = f"ws://{given}"
    try:
        parts = urlsplit(given)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidGatewayUrl from None
    scheme = _SCHEMES.get(parts.scheme, "")
    unsound = (
        not scheme
        or not host
        or not given.isascii()
        or not given.isprintable()
        or any(one in given for one in ' @?#{}\\"')
        or len(given) > URL_LIMIT_CHARACTERS
        or (port is not None and port == 0)
    )
    if unsound:
        raise InvalidGatewayUrl
    shown = _shown_host(host)
    suffix = "" if port in {None, _DEFAULT_PORTS[scheme]} else f":{port}"
    url = f"{scheme}://{shown}{suffix}{parts.path.rstrip('/')}"
    if scheme == "wss" or _is_loopback(host):
        return GatewayUrl(url, is_private=False, host=shown)
    if not _is_private(host):
        raise InsecureGatewayUrl(source)
    return GatewayUrl(url, is_private=True, host=shown)


def _shown_host(host: str) -> str:
    if ":" not in host:
        return host
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        raise InvalidGatewayUrl from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    if host.endswith(".local"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in _PLAIN_NETWORKS)
