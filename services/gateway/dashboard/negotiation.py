"""Content negotiation and conditional requests (RFC 9110). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

PREFERRED: Final = ("br", "gzip")
"""Content codings, best first."""


def weights(header: str) -> dict[str, float]:
    """Return the weight of each name in an Accept or Accept-Encoding header."""
    return dict(_parse_weight(part) for part in header.lower().split(",") if part.strip())


def best_coding(accept_encoding: str, available: Collection[str]) -> str | None:
    """Return the best available coding that the client accepts, or None for no coding.

    `accept_encoding` is the header's value, or "" if it was not sent.
    """
    given = weights(accept_encoding)
    for coding in PREFERRED:
        if coding in available and given.get(coding, given.get("*", 0.0)) > 0:
            return coding
    return None


def wants_html(accept: str) -> bool:
    """Return whether an Accept header names `text/html`, as browsers do."""
    return weights(accept).get("text/html", 0.0) > 0


def is_held(etag: str, if_none_match: str) -> bool:
    """Return whether If-None-Match lists this ETag, so that the response is 304."""
    held = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return etag in held or held == ["*"]


def _parse_weight(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, float(value)
            except ValueError:
                return name, 0.0
    return name, 1.0
