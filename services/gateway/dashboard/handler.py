"""The request handler for OpenClaw's dashboard."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from services.gateway import log_events
from services.gateway.dashboard.compression import Compressed
from services.gateway.dashboard.config import UNAUTHORIZED, configuration, names_a_bearer
from services.gateway.dashboard.files import ChangedSinceStartError, digest_of, list_files
from services.gateway.dashboard.negotiation import best_coding, is_held
from services.gateway.dashboard.page import DEPTH_LIMIT, depth_of, page_of
from services.gateway.dashboard.paths import (
    INDEX,
    NOWHERE,
    REVALIDATE,
    Kind,
    below,
    cache_control,
    content_type,
    place_of,
)
from services.gateway.dashboard.sending import Form, send
from shared.observability.ops import json_response
from shared.settings.environment import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_READ: Final = ("GET", "HEAD")
_NO_AVATAR: Final = {"avatarUrl": None}


class Dashboard:
    """Serves the dashboard's files as they were at startup."""

    def __init__(self, directory: Path, *, version: str, prefix: str = "") -> None:
        self._files = list_files(directory)
        if INDEX not in self._files:
            raise SettingsError([f"CONTROL_UI_DIR={directory}: index.html is not a regular file"])
        try:
            script = files("services.gateway").joinpath("pages/dashboard.js").read_text("utf-8")
            page = page_of(self._files[INDEX].plain.name.read_bytes(), script)
        except UnicodeDecodeError as error:
            raise SettingsError(
                [f"CONTROL_UI_DIR={directory}: index.html is not UTF-8 text"]
            ) from error
        self._page = page
        self._page_form = lru_cache(2 * (DEPTH_LIMIT + 1))(self._new_page_form)
        self._prefix = prefix
        self._headers = {
            "Content-Security-Policy": page.policy,
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
        self._configuration = configuration(version)
        self._compressed = Compressed()
        self._log = structlog.get_logger("gateway")
        self._change_logged = False

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve a request for a path that is not one of the gateway's own."""
        reads = request.method in _READ
        path = request.rel_url.raw_path
        if reads and self._prefix and path == self._prefix:
            return web.Response(status=308, headers={"Location": f"{self._prefix}/"})
        path = below(path, self._prefix)
        place = place_of(path, self._files) if reads else NOWHERE
        if place.kind is Kind.PAGE or place.kind is Kind.FILE:
            return await self._serve_file(request, place.path, depth_of(path))
        if place.kind is Kind.AVATAR and request.query.get("meta") == "1":
            return json_response(_NO_AVATAR)
        if place.kind is Kind.OPEN_CONFIG or place.kind is Kind.CONFIG:
            authorized = names_a_bearer(request.headers.get("Authorization", ""))
            if authorized or place.kind is Kind.OPEN_CONFIG:
                return json_response(self._configuration)
            return json_response(UNAUTHORIZED, status=401)
        return not_found()

    async def _serve_file(self, request: web.Request, path: str, depth: int) -> web.StreamResponse:
        try:
            form, digest = await self._form(path, depth, request.headers.get("Accept-Encoding", ""))
            first = await form.piece(0)
        except ChangedSinceStartError as changed:
            self._log_change(changed)
            return not_found()
        etag = f'"{digest}-{form.coding}"' if form.coding else f'"{digest}"'
        headers = {
            **self._headers,
            "Cache-Control": REVALIDATE if path == INDEX else cache_control(path),
            "ETag": etag,
        }
        if is_held(etag, request.headers.get("If-None-Match", "")):
            return web.Response(status=304, headers=headers)
        headers |= {"Content-Type": content_type(path), "Content-Length": str(form.size)}
        if form.coding is not None:
            headers["Content-Encoding"] = form.coding
        response = web.StreamResponse(headers=headers)
        await send(request, response, form, first)
        return response

    async def _form(self, path: str, depth: int, accept_encoding: str) -> tuple[Form, str]:
        """Return the form of a file to send, and the digest of its content."""
        takes_gzip = best_coding(accept_encoding, ("gzip",)) is not None
        if path == INDEX:
            return self._page_form(depth, "gzip" if takes_gzip else None)
        entry = self._files[path]
        coding = best_coding(accept_encoding, entry.coded)
        if coding is not None:
            return Form(entry.coded[coding], coding), entry.digest
        made = await self._compressed.gzip_of(path, entry.plain) if takes_gzip else None
        return Form(entry.plain) if made is None else Form(made, "gzip"), entry.digest

    def _new_page_form(self, depth: int, coding: str | None) -> tuple[Form, str]:
        body = self._page.body(depth)
        form = Form(gzip.compress(body, mtime=0), coding) if coding else Form(body)
        return form, digest_of(body)

    def _log_change(self, changed: ChangedSinceStartError) -> None:
        if not self._change_logged:
            self._change_logged = True
            self._log.warning(log_events.DASHBOARD_CHANGED.name, file=str(changed))


def not_found() -> web.Response:
    """Return a 404 response."""
    return web.Response(status=404, text="Not Found")
