"""The dashboard's page as it is served, and what a browser lets it do (contract §13). Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final

# The page is the same at /settings/devices as at /, and what it loads lies beside it at /.
_RELATIVE: Final = re.compile(
    r"""(<(?:link|script)\s[^>]*?\b(?:href|src)=["'])\./""", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Page:
    """The page and its Content-Security-Policy."""

    body: bytes
    policy: str


def page_of(index_html: bytes) -> Page:
    """Return the page made of the UI's index.html. Raises UnicodeDecodeError."""
    text = index_html.decode().replace("\r\n", "\n").replace("\r", "\n")
    text = _RELATIVE.sub(r"\1/", text)
    return Page(text.encode(), policy_for(text))


def policy_for(html: str) -> str:
    """Return the policy: nothing from elsewhere, and no inline script but the page's own."""
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
    """Return a SHA-256 as a policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inline_scripts(html: str) -> list[str]:
    """Return the texts of all scripts that stand in the page itself."""
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
