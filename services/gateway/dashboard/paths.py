"""Routing of the dashboard's request paths. Pure.

Raw paths are decoded here and looked up among the files listed at startup. A request path is never
joined to a directory, so path traversal is impossible.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Container

REVALIDATE: Final = "no-cache"
FOR_EVER: Final = "public, max-age=31536000, immutable"
INDEX: Final = "/index.html"
_CONFIG_NAME: Final = "control-ui-config.json"
_OPEN_CONFIG_PATH: Final = f"/__openclaw/{_CONFIG_NAME}"
PREFIX_LIMIT_SEGMENTS: Final = 16
"""How many leading segments are skipped at most to find a file's path."""
_NO_PAGES_BELOW: Final = frozenset({"api", "assets", "metrics", "v1"})
"""First segments that never lead to the page: requests below them expect data."""
_HASHED: Final = re.compile(r"/assets/(?:[^/]+/)*[^/]+-[\w-]{8}\.[^/]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_TYPES: Final = {
    "avif": "image/avif",
    "css": "text/css; charset=utf-8",
    "gif": "image/gif",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "md": "text/markdown; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "ttf": "font/ttf",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
}
_UNKNOWN_TYPE: Final = "application/octet-stream"
_COMPRESSIBLE: Final = frozenset(
    {
        *("css", "html", "ico", "js", "json", "map", "md", "mjs"),
        *("svg", "ttf", "txt", "wasm", "webmanifest"),
    }
)


class Kind(Enum):
    """What a path leads to."""

    PAGE = auto()
    FILE = auto()
    CONFIG = auto()
    OPEN_CONFIG = auto()
    """The configuration at the path that protocol 3 uses, which needs no bearer token."""
    AVATAR = auto()
    NOTHING = auto()


class Place(NamedTuple):
    """The target of a path; `path` is the file's, such as `/assets/app.js`."""

    kind: Kind
    path: str = ""


NOWHERE: Final = Place(Kind.NOTHING)


def place_of(raw_path: str, files: Container[str]) -> Place:
    """Return the target of a raw path (percent-encoded, without the query).

    `files` holds the decoded paths of all files, each with a leading slash.
    """
    path = _decoded(raw_path)
    if path is None:
        return NOWHERE
    if path.endswith(f"/{_CONFIG_NAME}"):
        is_open = path.endswith(_OPEN_CONFIG_PATH)
        return Place(Kind.OPEN_CONFIG if is_open else Kind.CONFIG)
    if path in files and path != INDEX:
        return Place(Kind.FILE, path)
    first = path.split("/", 2)[1]
    if first == "avatar":
        return Place(Kind.AVATAR)
    return NOWHERE if first in _NO_PAGES_BELOW else _file_or_page(path, files)


def below(path: str, prefix: str) -> str:
    """Return a path without the gateway's own prefix, such as `/openclaw`, if it has it."""
    if prefix and path.startswith(f"{prefix}/"):
        return path[len(prefix) :]
    return path


def _file_or_page(path: str, files: Container[str]) -> Place:
    """Return the file that a path ends with, or the page if the path has no extension.

    The page refers to its files by relative URLs, and may itself be at a deep path or below a
    prefix.
    """
    at = 0
    for _ in range(PREFIX_LIMIT_SEGMENTS):
        at = path.find("/", at + 1)
        if at < 0:
            break
        if path[at:] in files and path[at:] != INDEX:
            return Place(Kind.FILE, path[at:])
    last = path.rstrip("/").rpartition("/")[2]
    return NOWHERE if "." in last and last != INDEX[1:] else Place(Kind.PAGE, INDEX)


def _decoded(raw_path: str) -> str | None:
    """Decode each segment once; return None for ambiguous paths and hidden files."""
    if not raw_path.startswith("/"):
        return None
    segments = []
    for raw in raw_path[1:].split("/"):
        try:
            segment = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            return None
        if segment.startswith(".") or "/" in segment or "\\" in segment or _CONTROL.search(segment):
            return None
        segments.append(segment)
    if "" in segments[:-1]:
        return None
    return "/" + "/".join(segments)


def content_type(path: str) -> str:
    """Return a file's media type by its extension, independent of the system's table."""
    return _TYPES.get(_extension(path), _UNKNOWN_TYPE)


def compressible(path: str) -> bool:
    """Return whether a file type benefits from compression."""
    return _extension(path) in _COMPRESSIBLE


def cache_control(path: str) -> str:
    """Return the Cache-Control of a file; one with a hash in its name never changes."""
    return FOR_EVER if _HASHED.fullmatch(path) else REVALIDATE


def _extension(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2].lower()
