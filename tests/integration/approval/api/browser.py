"""A browser's part in a session: it stores the cookie and sends Origin headers."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

from services.approval.access.csrf import PAGE_HEADER
from services.approval.access.sessions import COOKIE
from tests.integration.approval.operator import BEARER

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator, Reply


class Browser:
    """Makes calls as the page does; `cookie` was set at sign-in."""

    def __init__(self, operator: Operator, cookie: str = "") -> None:
        self.operator = operator
        self.cookie = cookie

    def at(self, operator: Operator) -> Browser:
        """Return the same browser at another replica."""
        return Browser(operator, self.cookie)

    async def sign_in(self, headers: dict[str, str] | None = None) -> Reply:
        """Exchange the admin token for a cookie."""
        reply = await self.operator.call(
            "POST", "/v1/session", headers=BEARER if headers is None else headers
        )
        given = SimpleCookie(reply.headers.get("Set-Cookie", ""))
        self.cookie = given[COOKIE].value if COOKIE in given else ""
        return reply

    async def call(
        self, method: str, path: str, *, json: Any = None, but: dict[str, str | None] | None = None
    ) -> Reply:
        """Make a call; `but` changes headers, None omits one."""
        origin = str(self.operator.url.origin())
        sent = {
            "Cookie": f"{COOKIE}={self.cookie}",
            "Origin": origin,
            "Sec-Fetch-Site": "same-origin",
            PAGE_HEADER: "1",
            **(but or {}),
        }
        headers = {name: value for name, value in sent.items() if value is not None}
        return await self.operator.call(method, path, json=json, headers=headers)
