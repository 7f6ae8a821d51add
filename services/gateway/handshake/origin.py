"""Which web pages may open a socket: origins as browsers write them, and who allows them. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from shared.settings import shown

if TYPE_CHECKING:
    from collections.abc import Container

NOT_ALLOWED: Final = "origin not allowed"
MISSING_OR_INVALID: Final = "origin missing or invalid"
ANY: Final = "*"
"""The entry of the setting that allows every origin."""

_LOCAL_SUFFIXES: Final = (".local", ".ts.net")
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(:[0-9]+)?/?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NOT_OF_PAGES: Final = frozenset({"file", "ws", "wss"})
"""Schemes that stand in no Origin: pages of files send `null`, and a socket is no page."""
_PORT_MAX: Final = 65_535
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def canonical_origin(text: str) -> str | None:
    """Return an origin as browsers write it, or None where it is none.

    Any scheme may be served to pages (`tauri://localhost`, `chrome-extension://<id>`). `null`,
    files, and whatever is more or less than scheme, host and port are no origins.
    """
    found = _ORIGIN.fullmatch(text.strip().lower())
    if found is None:
        return None
    scheme, host, port_text = found.groups()
    port = int(port_text[1:]) if port_text else None
    if scheme in _NOT_OF_PAGES or (port is not None and port > _PORT_MAX):
        return None
    try:
        host = _canonical_host(host, is_web=scheme in _DEFAULT_PORTS)
    except ValueError:
        return None
    shown = "" if port in {None, _DEFAULT_PORTS.get(scheme)} else f":{port}"
    return f"{scheme}://{host}{shown}"


def _canonical_host(host: str, *, is_web: bool) -> str:
    """Return a host as browsers write it; raises ValueError for a broken IP address."""
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    last_label = host.rstrip(".").rpartition(".")[2]
    if is_web and _NUMERIC_LABEL.fullmatch(last_label):
        return str(ipaddress.IPv4Address(host))
    return host


def allowed_origins(text: str) -> tuple[frozenset[str], list[str]]:
    """Read a comma list of origins, or `*`: returns them, and what is wrong with which entry.

    An entry that no Origin can ever equal is a mistake of whoever wrote it.
    """
    found: set[str] = set()
    problems: list[str] = []
    for part in text.split(","):
        value = part.strip().lower()
        if not value:
            continue
        if value != ANY and (problem := _entry_problem(value)):
            problems.append(f"{shown(value)}: {problem}")
        found.add(value)
    return frozenset(found), problems


def _entry_problem(value: str) -> str:
    """Say why no Origin can equal this entry, or return an empty text."""
    origin = canonical_origin(value)
    if origin is not None:
        return "" if origin == value else f"browsers write this origin as {origin}"
    if "*" in value:
        return "patterns are not supported; list each origin, or * alone to allow any"
    if not value.isascii():
        return "browsers send international names in ASCII (xn--...)"
    if value == "null" or value.startswith("file:"):
        return "pages without an origin of their own cannot be allowed"
    hint = _suggestion(value)
    such = f", such as {hint}" if hint else ""
    if value.startswith(("ws://", "wss://")):
        return f"is a socket's address; the page's origin is wanted{such}"
    return f"is no origin; write scheme://host[:port] with no path{such}"


def _suggestion(value: str) -> str | None:
    """Return the origin that an entry most likely means."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return canonical_origin(f"{scheme}://{parts.netloc.rpartition('@')[2]}")


def origin_problem(
    origin: str | None, host: str, allowed: Container[str], *, direct_loopback: bool
) -> str | None:
    """Say why a page of this origin may not connect, or None when it may.

    `host` is the Host header; `direct_loopback`: the client is on this machine with no proxy
    between. Called when an Origin was sent, or the client is one that runs in a browser.
    """
    if origin is None:
        return MISSING_OR_INVALID
    parsed = canonical_origin(origin)
    if parsed is None:
        return MISSING_OR_INVALID
    if ANY in allowed or parsed in allowed:
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
