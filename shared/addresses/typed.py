"""Addresses typed by people: normalised, or refused with one sentence. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

WEB: Final = ("https", "http")
SOCKET: Final = ("wss", "ws")
PAGE: Final = "/setup"
"""Approval's page for operators, which people copy along with the address."""
PORT_MAX: Final = 65_535
_SOCKET_OF: Final = {"http": "ws", "https": "wss"}


class AddressError(ValueError):
    """The problem of an address, as a sentence without its full stop."""


def approval_address(text: str) -> str:
    """Return approval's address without a trailing slash; raises AddressError."""
    parts = _split(text.strip(), WEB)
    path = parts.path.rstrip("/")
    if path.endswith(PAGE):
        meant = parts._replace(path=path.removesuffix(PAGE), query="", fragment="").geturl()
        raise AddressError(f"{text} is the address of the page: leave out {PAGE} ({meant})")
    if parts.query or parts.fragment:
        raise AddressError(f"{text} contains a query or fragment: leave it out")
    return parts._replace(path=path).geturl()


def gateway_address(text: str) -> str:
    """Return a gateway's WebSocket address; https:// becomes wss://. Raises AddressError."""
    parts = _split(text.strip(), (*SOCKET, *WEB))
    scheme = _SOCKET_OF.get(parts.scheme, parts.scheme)
    return parts._replace(scheme=scheme, path=parts.path.rstrip("/"), fragment="").geturl()


def is_this_machine(url: str) -> bool:
    """Return whether an address is loopback, without a DNS lookup."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(text: str, schemes: Sequence[str]) -> SplitResult:
    secure, plain = schemes[:2]
    if not text.isprintable() or " " in text:
        raise AddressError("the address contains a space or an unprintable character")
    scheme, colon, rest = text.partition("://")
    if not colon:
        meant = f"{plain if is_this_machine(f'//{text}') else secure}://{text}"
        raise AddressError(f"{text or 'an empty address'} has no scheme: write {meant}")
    if scheme.lower() not in schemes:
        raise AddressError(f"{text} does not start with {secure}:// or {plain}://")
    if not rest.strip("/"):
        raise AddressError(f"{text} names no host")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise AddressError(
            f"{text} is not an address: the port must be a number up to {PORT_MAX}, and an IPv6 "
            "address must be in brackets"
        ) from None
    if not host:
        raise AddressError(f"{text} names no host")
    if parts.username is not None:
        raise AddressError("the address contains a user or password: leave them out")
    return parts
