"""Who may use the HTTP API: whoever shows the admin token, and was not locked out for guessing.

Wrong tokens are counted for all replicas together, by client address, like other secrets (design
§5): too many lock the address out, and then a right one is not told apart from a wrong one.
"""

from __future__ import annotations

import secrets
from math import ceil
from typing import TYPE_CHECKING, Final

from services.approval.errors import StoreUnavailable
from services.approval.problems import LOCKED_OUT, UNAUTHORIZED, Refused
from shared.addresses import client_address

if TYPE_CHECKING:
    from aiohttp import web

    from services.approval.settings import Settings
    from services.approval.store import Store

ADMIN_TOKEN: Final = "admin-token"  # noqa: S105 (the name of a credential class)


class Door:
    """Looks at the admin token of each call."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._accepted = settings.admin_tokens
        self._trusted_proxies = settings.common.trusted_proxies

    async def require_admin(self, request: web.Request) -> None:
        """Return if the call may be made; raises Refused, StoreUnavailable."""
        given = request.headers.getall("Authorization", [])
        where = client_address(request.remote or "", request.headers, self._trusted_proxies)
        if self._is_right(given):
            locked_ms = await self._came_in(where.address.limit_key)
        else:
            locked_ms = await self._failed(where.address.limit_key) if given else 0
        if locked_ms:
            raise Refused(
                LOCKED_OUT,
                "Look for who guesses, or for what still uses an old token. It ends by itself.",
                {"Retry-After": str(ceil(locked_ms / 1000))},
            )
        if not self._is_right(given):
            raise Refused(
                UNAUTHORIZED,
                "Send the header `Authorization: Bearer <APPROVAL_ADMIN_TOKEN>`.",
                {"WWW-Authenticate": 'Bearer realm="latchkey"'},
            )

    def _is_right(self, given: list[str]) -> bool:
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        try:
            return self._accepted.accepts(token.strip()) and scheme.lower() == "bearer"
        except UnicodeEncodeError:  # bytes that are no text
            return False

    async def _came_in(self, limit_key: str) -> int:
        """Return for how many ms the address is locked out; clear its failures if it is not."""
        _head, _held, guards = await self._store.load_guarded([], [limit_key])
        locked_ms = guards[limit_key].locked_ms([ADMIN_TOKEN], self._store.now_ms())
        if not locked_ms and guards[limit_key].holds([ADMIN_TOKEN]):
            await self._store.clear_failures(limit_key, [ADMIN_TOKEN])
        return locked_ms

    async def _failed(self, limit_key: str) -> int:
        """Count a wrong token; returns for how many ms the address was locked out before.

        Without Redis nothing is counted: then a right token opens nothing either.
        """
        try:
            return await self._store.count_failure(limit_key, secrets.token_hex(8), [ADMIN_TOKEN])
        except StoreUnavailable:
            return 0
