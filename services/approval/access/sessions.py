"""Operators' sessions in a browser: how one is signed and read (decision 12). Pure.

A session is a random id and the moment it ends, signed with the very admin token it was opened
with: when that value leaves APPROVAL_ADMIN_TOKEN, its sessions end. What Redis keeps of it
(`signed_in`) is the id alone, which signs nothing in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LIFE_MS: Final = 8 * 3_600_000
"""A working day: then the token is asked for again, whatever was done meanwhile."""
COOKIE: Final = "latchkey_session"
COOKIE_PATH: Final = ""
"""None is named, so the browser takes the directory of the call that set it: `/v1`, below whatever
prefix a proxy adds. The cookie goes to the API and nowhere else; the page itself is no secret."""

_FORM: Final = re.compile(r"([1-9][0-9]{0,15})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)
_PURPOSE: Final = b"latchkey session 1\0"


@dataclass(frozen=True, slots=True)
class Session:
    """One browser that was signed in; `expires_at_ms` is of the store's clock."""

    id: str
    expires_at_ms: int


def sign(session: Session, admin_token: str) -> str:
    """Return the cookie's value for a session that was opened with this token."""
    return f"{session.expires_at_ms}.{session.id}.{_mac(session, admin_token)}"


def read(cookie: str, admin_tokens: Iterable[str], now_ms: int) -> Session | None:
    """Return the session of a cookie's value, or None: forged, over, or of a token that is gone."""
    found = _FORM.fullmatch(cookie)
    if found is None:
        return None
    expires, session_id, mac = found.groups()
    session = Session(session_id, int(expires))
    sound = False
    for token in admin_tokens:
        sound |= hmac.compare_digest(_mac(session, token), mac)
    return session if sound and now_ms < session.expires_at_ms else None


def _mac(session: Session, admin_token: str) -> str:
    text = _PURPOSE + f"{session.expires_at_ms}.{session.id}".encode()
    return hmac.new(admin_token.encode(), text, hashlib.sha256).hexdigest()
