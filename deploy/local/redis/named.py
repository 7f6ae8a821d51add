"""Check that the Redis at REDIS_URL accepts connections before anything is started."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

from deploy.local.errors import RedisSilent

TIMEOUT_SECONDS: Final = 5.0
DEFAULT_PORT: Final = 6379


def require_answer(url: str) -> None:
    """Raise RedisSilent if Redis does not accept a connection.

    Invalid addresses are ignored; the services report them.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        return
    if not host:
        return
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_SECONDS).close()
    except TimeoutError:
        raise RedisSilent(_shown(parts.scheme, host, port), "no response in time") from None
    except OSError as error:
        reason = (error.strerror or "no connection").lower()
        raise RedisSilent(_shown(parts.scheme, host, port), reason) from None


def _shown(scheme: str, host: str, port: int) -> str:
    """Return the address without user and password."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
