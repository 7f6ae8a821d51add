"""Protection against cross-site request forgery for calls authenticated by cookie. Pure.

Browsers send cookies with requests that other sites cause. The cookie is SameSite=Strict. In
addition, the Origin must be the service's own, and changes must carry a header that forms and other
sites cannot send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.settings.environment import origin_of

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE_HEADER: Final = "X-Latchkey-Page"
"""Header that the page sends with every call; the value does not matter."""
_READS: Final = frozenset({"GET", "HEAD"})
_OWN_SITES: Final = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site for the page itself and for addresses typed by a person."""


def check(method: str, headers: Mapping[str, str], public_url: str, *, https: bool) -> str:
    """Return why a call with a cookie is rejected; empty if it is accepted.

    `https`: the browser is known to use https, so an http origin is not accepted.
    """
    if headers.get("Sec-Fetch-Site", "same-origin") not in _OWN_SITES:
        return "The request was caused by another site."
    origin = headers.get("Origin")
    if origin is not None and origin not in _own(headers.get("Host", ""), public_url, https=https):
        return (
            "The Origin is not this service's. Open the page at its own address; "
            "if a proxy changes the Host, set APPROVAL_PUBLIC_URL to that address."
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
