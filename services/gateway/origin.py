"""Which web pages may open a socket (contract §4.2). Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from shared.settings import origin_of

if TYPE_CHECKING:
    from collections.abc import Container

NOT_ALLOWED: Final = "origin not allowed"
MISSING_OR_INVALID: Final = "origin missing or invalid"

_LOCAL_SUFFIXES: Final = (".local", ".ts.net")


def origin_problem(
    origin: str | None, host: str, allowed: Container[str], *, direct_loopback: bool
) -> str | None:
    """Say why a page of this origin may not connect, or None when it may.

    `host` is the Host header; `direct_loopback`: the client is on this machine with no proxy
    between. Called when an Origin was sent, or the client is one that runs in a browser.
    """
    if origin is None:
        return MISSING_OR_INVALID
    parsed = origin_of(origin.strip().lower())
    if parsed is None or urlsplit(origin).path not in {"", "/"}:
        return MISSING_OR_INVALID
    if "*" in allowed or parsed in allowed:
        return None
    origin_parts = urlsplit(parsed)
    name = origin_parts.hostname or ""
    if direct_loopback and _is_loopback(name):
        return None
    if _host_of(parsed) == host.strip().lower() and (
        _is_private(name) or name.endswith(_LOCAL_SUFFIXES)
    ):
        return None
    return NOT_ALLOWED


def _host_of(origin: str) -> str:
    return origin.split("://", 1)[1]


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_private(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_private and not address.is_loopback and not address.is_unspecified
