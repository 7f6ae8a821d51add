"""Answers health checks at accept in an overload.

The kernel lets them through, but otherwise they would wait for several iterations of a busy loop.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.server.strict_http import SERVER_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.observability.ops import OpsViews

_END: Final = b"\r\n\r\n"


class OverloadHealth:
    """Answers complete health checks, and no other requests."""

    def __init__(self, ops: OpsViews, prefix: str) -> None:
        views = {
            "/livez": ops.live,
            "/healthz": ops.live,
            "/health": ops.live,
            "/readyz": ops.public_ready,
            "/ready": ops.public_ready,
        }
        self._views: Mapping[bytes, Callable[[], tuple[int, bytes]]] = {
            f"GET {before}{path} HTTP/1.1".encode(): view
            for before in ("", prefix)
            for path, view in views.items()
        }

    def answer(self, request: bytes) -> bytes | None:
        """Return the response if what a socket has sent is one complete health check, else None."""
        view = self._views.get(request.partition(b"\r\n")[0])
        if view is None or not request.endswith(_END) or request.count(_END) != 1:
            return None
        status, body = view()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "Content-Type: application/json\r\nCache-Control: no-store\r\n"
            f"Server: {SERVER_NAME}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body
