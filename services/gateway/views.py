"""The gateway's HTTP: a WebSocket on any path, and a few pages beside it (contract §13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from services.gateway.sockets import SocketProtocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.gateway.connection import Sockets
    from shared.observability.ops import OpsViews

    View = Callable[[web.Request], Awaitable[web.StreamResponse]]

_READ: Final = ("GET", "HEAD")
_ABOUT: Final = """\
This is a Latchkey gateway. It speaks the OpenClaw gateway protocol over WebSocket, on any path:
{address}

A device that is refused with "pairing required" waits for a person to approve it at
{approval}
"""


class Views:
    """Sends each request to its view."""

    def __init__(
        self,
        sockets: Sockets,
        ops: OpsViews,
        *,
        public_url: str,
        approval_public_url: str,
        own_ops_port: bool,
    ) -> None:
        self._sockets = sockets
        self._about_text = _ABOUT.format(
            address=public_url or "the address of this page, with ws:// or wss://",
            approval=approval_public_url or "the approval service (APPROVAL_PUBLIC_URL is not set)",
        )
        self._pages: Mapping[str, View] = {
            "/": self._about,
            "/livez": ops.livez,
            "/healthz": ops.livez,
            "/health": ops.livez,
            "/readyz": ops.public_readyz,
            "/ready": ops.public_readyz,
            **({} if own_ops_port else {"/metrics": ops.metrics}),
        }

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        """Serve a request: an upgrade on any path, a page by its exact path."""
        if isinstance(request.protocol, SocketProtocol):
            request.protocol.asked()
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._sockets.serve(request)
        page = self._pages.get(request.path)
        if page is None:
            return web.Response(status=404, text="Not Found")
        if request.method not in _READ:
            raise web.HTTPMethodNotAllowed(request.method, _READ)
        return await page(request)

    async def _about(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._about_text)


def add_routes(app: web.Application, views: Views) -> None:
    """Send everything to the views."""
    app.router.add_route("*", "/{path:.*}", views.dispatch)
