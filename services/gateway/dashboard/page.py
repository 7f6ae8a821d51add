"""The dashboard's index page with the gateway's script, and its security policy. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final

DEPTH_LIMIT: Final = 16
"""Deeper paths get the page of this depth; the dashboard has no path this deep."""
_HEAD: Final = re.compile(r"<head(?:\s[^>]*)?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page:
    """The page, split where the gateway's script begins, and its Content-Security-Policy."""

    before: str
    after: str
    policy: str

    def body(self, depth: int) -> bytes:
        """Return the page for a path with `depth` slashes; 0 for the root."""
        if not self.after:
            return self.before.encode()
        return f'{self.before}<script data-depth="{depth}">{self.after}'.encode()


def page_of(index_html: bytes, script: str) -> Page:
    """Return the dashboard's index.html with the gateway's script before its own scripts.

    URLs in the page stay relative. Raises UnicodeDecodeError.
    """
    text = index_html.decode().replace("\r\n", "\n").replace("\r", "\n")
    head = _HEAD.search(text)
    if head is None:
        return Page(text, "", policy_for(text))
    before, after = text[: head.end()], f"{script}</script>{text[head.end() :]}"
    return Page(before, after, policy_for(f"{before}<script>{after}"))


def depth_of(path: str) -> int:
    """Return the depth of a path below the prefix: its number of slashes, 0 for the root."""
    return 0 if path == "/" else min(path.count("/"), DEPTH_LIMIT)


def policy_for(html: str) -> str:
    """Return the policy: same origin only, and no inline scripts except the page's own."""
    scripts = " ".join(["'self'", *(f"'sha256-{digest(each)}'" for each in inline_scripts(html))])
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src {scripts}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "media-src 'self' data: blob:",
            "connect-src 'self' data:",
            "worker-src 'self'",
            "manifest-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def digest(text: str) -> str:
    """Return a SHA-256 digest in base64, as used in a Content-Security-Policy."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inline_scripts(html: str) -> list[str]:
    """Return the texts of all inline scripts in a page."""
    reader = _Scripts()
    reader.feed(html)
    reader.close()
    return reader.found


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._pieces: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script" and all(name != "src" for name, _ in attrs):
            self._pieces = []

    def handle_data(self, data: str) -> None:
        if self._pieces is not None:
            self._pieces.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._pieces is not None:
            self.found.append("".join(self._pieces))
            self._pieces = None
