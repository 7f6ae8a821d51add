"""Join URLs: `GET /j/<short code>` returns the payload of a setup code, once."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from shared.bus.errors import Unavailable

if TYPE_CHECKING:
    from services.gateway.methods.setup_client import SetupClient
    from shared.server.clients import Clients

PREFIX: Final = "/j/"
_PATH: Final = re.compile(r"/j/([A-Za-z0-9_-]{22})")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_RETRY_SECONDS: Final = 2


class JoinView:
    """Serves join URLs; whatever is not a first, plain GET of a live one is not found."""

    def __init__(self, setup: SetupClient, clients: Clients) -> None:
        self._setup = setup
        self._clients = clients

    async def serve(self, request: web.Request, path: str) -> web.Response:
        """Return the payload. HEAD and other methods do not use the URL up."""
        found = _PATH.fullmatch(path)
        if found is None or request.method != "GET" or "?" in request.raw_path:
            return _not_found()
        client = self._clients.address(request.remote or "", request.headers)
        try:
            answer = await self._setup.join(found[1], client.address.text)
        except Unavailable:
            return _error("unavailable", 503, _RETRY_SECONDS)
        if answer.locked_ms:
            return _error("rate_limited", 429, math.ceil(answer.locked_ms / 1000))
        payload = bytes(answer.payload)
        if not payload:
            return _not_found()
        return web.Response(body=payload, content_type="application/json", headers=_HEADERS)


def _not_found() -> web.Response:
    return _error("not_found", 404)


def _error(name: str, status: int, retry_seconds: int = 0) -> web.Response:
    headers = {**_HEADERS, **({"Retry-After": str(retry_seconds)} if retry_seconds else {})}
    return web.json_response({"error": name}, status=status, headers=headers)
