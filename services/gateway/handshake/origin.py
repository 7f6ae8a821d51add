"""Web origins: parsing, the allowlist, and the check on connect. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from shared.settings.environment import shown

if TYPE_CHECKING:
    from collections.abc import Container

NOT_ALLOWED: Final = "origin not allowed"
MISSING_OR_INVALID: Final = "origin missing or invalid"
ANY: Final = "*"
"""The entry of GATEWAY_ALLOWED_ORIGINS that allows every origin."""

_LOCAL_SUFFIXES: Final = (".local", ".ts.net")
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(:[0-9]+)?/?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NOT_OF_PAGES: Final = frozenset({"file", "ws", "wss"})
"""Schemes that never occur in an Origin: `file:` pages send `null`, and sockets are not pages."""
_PORT_MAX: Final = 65_535
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def canonical_origin(text: str) -> str | None:
    """Return an origin in the form that browsers send, or None if it is not an origin.

    Any scheme may serve pages (`tauri://localhost`, `chrome-extension://<id>`). `null`, `file:`
    and anything other than scheme, host and optional port are rejected.
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
    suffix = "" if port in {None, _DEFAULT_PORTS.get(scheme)} else f":{port}"
    return f"{scheme}://{host}{suffix}"


def _canonical_host(host: str, *, is_web: bool) -> str:
    """Return a host in the form that browsers send. Raises ValueError for an invalid IP address."""
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    last_label = host.rstrip(".").rpartition(".")[2]
    if is_web and _NUMERIC_LABEL.fullmatch(last_label):
        return str(ipaddress.IPv4Address(host))
    return host


def allowed_origins(text: str) -> tuple[frozenset[str], list[str]]:
    """Parse a comma-separated list of origins or `*`; return them and the invalid entries.

    An entry that no Origin header can ever equal is reported as a mistake.
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
    """Return why no Origin header can equal this entry, or ""."""
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
    example = f", such as {hint}" if hint else ""
    if value.startswith(("ws://", "wss://")):
        return f"is the address of a socket; give the origin of the page{example}"
    return f"is not an origin; write scheme://host[:port] without a path{example}"


def _suggestion(value: str) -> str | None:
    """Return the origin that an invalid entry most likely means."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return canonical_origin(f"{scheme}://{parts.netloc.rpartition('@')[2]}")


def origin_problem(
    origin: str | None, host: str, allowed: Container[str], *, direct_loopback: bool
) -> str | None:
    """Return why a page of this origin may not connect, or None if it may.

    `host` is the Host header; `direct_loopback` means that the client is on this machine with no
    proxy in between. Call it when an Origin was sent or the client runs in a browser.
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
