"""Looks whether anybody answers at the Redis that REDIS_URL names, before anything is started."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

from deploy.local.errors import RedisSilent

TIMEOUT_SECONDS: Final = 5.0
DEFAULT_PORT: Final = 6379


def require_answer(url: str) -> None:
    """Raise RedisSilent where nobody takes a connection.

    What is no address is left to the services, which say what is wrong with it.
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
        raise RedisSilent(_shown(parts.scheme, host, port), "no answer in time") from None
    except OSError as error:
        reason = (error.strerror or "no connection").lower()
        raise RedisSilent(_shown(parts.scheme, host, port), reason) from None


def _shown(scheme: str, host: str, port: int) -> str:
    """Return the address alone: user and password are nobody's business."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
