"""Serves the files of the operators' page, read once at start, with their security headers.

The page contains no secrets and is public; it loads its data from the API.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAGE: Final = "/setup"
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Only the page's own scripts and styles, no HTML from strings, no framing; QR codes are data:."""
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Frame-Options": "DENY",
}
_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page, and the path it is served at."""

    path: str
    body: bytes
    content_type: str
    etag: str

    @property
    def caching(self) -> str:
        """Cache-Control: the page itself is never stored, other files are revalidated each time."""
        return "no-store" if self.path == PAGE else "no-cache"


def page_files() -> list[File]:
    """Read the page's files: `index.html` is the page, the others are served below it."""
    found = []
    for entry in files("services.approval").joinpath("pages").iterdir():
        name, _, kind = entry.name.rpartition(".")
        if name and kind in _TYPES:
            body = entry.read_bytes()
            path = PAGE if entry.name == "index.html" else f"{PAGE}/{entry.name}"
            found.append(File(path, body, _TYPES[kind], hashlib.sha256(body).hexdigest()[:32]))
    return sorted(found, key=lambda one: one.path)


def json_view(body: bytes) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler that serves a JSON document, which is compressed once."""
    etag = hashlib.sha256(body).hexdigest()[:32]
    compressed = gzip.compress(body, mtime=0)

    async def serve(request: web.Request) -> web.Response:
        takes_gzip = _takes_gzip(request.headers.get("Accept-Encoding", ""))
        own_etag = f"{etag}-gzip" if takes_gzip else etag
        known = request.if_none_match or ()
        if any(tag.value in {own_etag, "*"} for tag in known):
            response = web.Response(status=304)
        else:
            response = web.Response(
                body=compressed if takes_gzip else body, content_type="application/json"
            )
            if takes_gzip:
                response.headers["Content-Encoding"] = "gzip"
        response.headers.update({"Cache-Control": "no-cache", "Vary": "Accept-Encoding"})
        response.etag = own_etag
        return response

    return serve


def _takes_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header names gzip with a weight above 0."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0.") != "q="
    return False


def page_view(file: File) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler that serves a file."""

    async def serve(request: web.Request) -> web.Response:
        known = request.if_none_match or ()
        if any(tag.value in {file.etag, "*"} for tag in known):
            response = web.Response(status=304)
        else:
            response = web.Response(body=file.body, content_type=file.content_type, charset="utf-8")
        response.headers.update({**HEADERS, "Cache-Control": file.caching})
        response.etag = file.etag
        return response

    return serve
