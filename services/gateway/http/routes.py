"""Routing of HTTP requests: WebSocket upgrades on any path, and a few pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from services.gateway.dashboard.handler import not_found
from services.gateway.dashboard.negotiation import wants_html
from services.gateway.dashboard.paths import below
from services.gateway.http.about_page import (
    NO_DEVICES_PAGE,
    POLICY,
    about_html,
    about_text,
    devices_page,
)
from services.gateway.http.join import PREFIX
from services.gateway.http.upgrade_request import wants_upgrade
from shared.server.http_protocol import TrackedRequestHandler, name_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.gateway.http.join import JoinView
    from services.gateway.http.upgrade import Upgrader
    from shared.observability.ops import OpsViews

    View = Callable[[web.Request], Awaitable[web.StreamResponse]]

_READ: Final = ("GET", "HEAD")
_WATCHED: Final = ("/livez", "/health", "/ready", "/metrics")
"""What the paths of health checks and metrics begin with."""


def health_requests(prefix: str) -> list[bytes]:
    """Return how requests for health and metrics begin; the kernel always lets these through."""
    return [
        f"{method} {before}{path}".encode()
        for before in dict.fromkeys(("", prefix))
        for method in _READ
        for path in _WATCHED
    ]


class Views:
    """Dispatches each request to its view."""

    def __init__(
        self,
        sockets: Upgrader,
        ops: OpsViews,
        *,
        public_url: str,
        approval_public_url: str,
        own_ops_port: bool,
        join: JoinView,
        prefix: str = "",
        elsewhere: View | None = None,
    ) -> None:
        self._sockets = sockets
        self._join = join
        self._prefix = prefix
        self._fallback: View = _not_found if elsewhere is None else elsewhere
        self._about_text = about_text(public_url, approval_public_url)
        self._about_html = about_html(public_url, approval_public_url)
        self._devices_page = devices_page(approval_public_url)
        self._pages: Mapping[str, View] = {
            **({"/": self._about} if elsewhere is None else {}),
            "/setup": self._setup,
            "/livez": ops.livez,
            "/healthz": ops.livez,
            "/health": ops.livez,
            "/readyz": ops.public_readyz,
            "/ready": ops.public_readyz,
            **({} if own_ops_port else {"/metrics": ops.metrics}),
        }

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        """Serve a request: upgrades on any path, pages only on their exact path."""
        if isinstance(request.protocol, TrackedRequestHandler):
            request.protocol.request_started()
        if wants_upgrade(request.headers):
            return await self._sockets.serve(request)
        path = below(request.path, self._prefix)
        if path.startswith(PREFIX):
            return await self._join.serve(request, path)
        page = self._pages.get(path)
        if page is None:
            return await self._fallback(request)
        if request.method not in _READ:
            raise web.HTTPMethodNotAllowed(request.method, _READ)
        return await page(request)

    async def _about(self, request: web.Request) -> web.Response:
        html = wants_html(request.headers.get("Accept", ""))
        return web.Response(
            text=self._about_html if html else self._about_text,
            content_type="text/html" if html else "text/plain",
            headers={
                "Cache-Control": "no-cache",
                "Content-Security-Policy": POLICY,
                "Referrer-Policy": "no-referrer",
                "Vary": "Accept",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
            },
        )

    async def _setup(self, _request: web.Request) -> web.Response:
        """Redirect to the page where devices are approved, dropping the query."""
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        if self._devices_page:
            return web.Response(status=302, headers={**headers, "Location": self._devices_page})
        return web.Response(status=404, text=NO_DEVICES_PAGE, headers=headers)


async def _not_found(_request: web.Request) -> web.Response:
    return not_found()


def add_routes(app: web.Application, views: Views) -> None:
    """Route every request to the views."""
    app.on_response_prepare.append(name_server)
    app.router.add_route("*", "/{path:.*}", views.dispatch)
