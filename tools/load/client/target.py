"""The address of the gateway under load, and whether it is on this machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"ws": 80, "wss": 443}


class BadTarget(ValueError):
    """An address that cannot be put under load."""


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway's address."""

    host: str
    port: int
    path: str
    tls: bool

    @property
    def url(self) -> str:
        """The address in its usual form."""
        return f"{'wss' if self.tls else 'ws'}://{self.netloc}{self.path}"

    @property
    def http_url(self) -> str:
        """The HTTP address of the same gateway, without a path."""
        return f"{'https' if self.tls else 'http'}://{self.netloc}"

    @property
    def netloc(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["wss" if self.tls else "ws"] else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether its name is that of this machine."""
        return is_loopback(self.host)


def read_target(url: str) -> Target:
    """Parse an address. Raises BadTarget."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"{url}: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadTarget(f"{url}: give ws://HOST:PORT or wss://HOST")
    if parts.username or parts.password or parts.fragment:
        raise BadTarget(
            "an address must not contain user, password or fragment; tokens come from the environment"
        )
    path = parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"
    target = Target(parts.hostname, port or _PORTS[parts.scheme], path, parts.scheme == "wss")
    if not target.tls and not target.is_loopback:
        raise BadTarget(f"{url}: tokens would be sent unencrypted; use wss://")
    return target


def is_loopback(host: str) -> bool:
    """Return whether a host name is a loopback name, without a DNS lookup."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
