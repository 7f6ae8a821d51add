"""Whether a call that brings a cookie comes from our own page (attack 43). Pure.

A browser sends cookies whoever made it call. The cookie is SameSite=Strict; beside that, what
changes something must carry a header that no form and no other site can send, and the Origin that
browsers state must be our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.settings import origin_of

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE_HEADER: Final = "X-Latchkey-Page"
"""What the page sends with every call; the value does not matter."""
_READS: Final = frozenset({"GET", "HEAD"})
_OWN_SITES: Final = frozenset({"same-origin", "none"})
"""What Sec-Fetch-Site says of our page, and of an address that a person typed."""


def check(method: str, headers: Mapping[str, str], public_url: str, *, https: bool) -> str:
    """Return why a call with a cookie is not taken for the page's, or an empty text.

    `https`: the browser is known to have come over https, so that http is another origin.
    """
    if headers.get("Sec-Fetch-Site", "same-origin") not in _OWN_SITES:
        return "Another site made the browser call."
    origin = headers.get("Origin")
    if origin is not None and origin not in _own(headers.get("Host", ""), public_url, https=https):
        return (
            "The Origin is not this service's. Open the page at its own address; "
            "APPROVAL_PUBLIC_URL names it where a proxy changes the Host."
        )
    if method in _READS:
        return ""
    if origin is None:
        return "A change by cookie needs the header Origin, which browsers send."
    if PAGE_HEADER not in headers:
        return f"A change by cookie needs the header {PAGE_HEADER}."
    return ""


def _own(host: str, public_url: str, *, https: bool) -> set[str | None]:
    schemes = ("https",) if https else ("https", "http")
    return {origin_of(public_url), *(origin_of(f"{scheme}://{host}") for scheme in schemes)} - {
        None
    }
