"""Authenticates callers of the HTTP API by the admin token or by a session opened with it.

Wrong tokens are counted per client address across all replicas, like other secrets. Too many
different ones lock the address out. During a lock-out, and while counting is not possible, a
correct token gets the same answer as a wrong one. Sessions cannot be guessed, so they are neither
counted nor affected by a lock-out. Authorization headers with a scheme other than Bearer are
ignored, because browsers and proxies send them on their own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from aiohttp import web

from services.approval.access import sessions
from services.approval.access.csrf import check
from services.approval.domain.authorization import ADMIN_OPERATOR, operator_caller
from services.approval.domain.lockout import ADMIN_TOKEN, NOTHING_HELD
from services.approval.domain.permissions import Permission
from services.approval.problems import CROSS_SITE, LOCKED_OUT, UNAUTHORIZED, ProblemError
from shared.addresses.client import ClientAddress, over_https
from shared.secret_digests import SecretDigests

if TYPE_CHECKING:
    from services.approval.access.sessions import Session
    from services.approval.domain.authorization import Caller
    from services.approval.settings import Settings
    from services.approval.storage.store import Store
    from shared.server.clients import Clients

_SESSION_ID_BYTES: Final = 16
_WHERE: Final = web.RequestKey("where", ClientAddress)


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated operator; `token` is the bearer token that was sent, if one was."""

    operator: str
    permission: Permission
    token: str = ""
    session: Session | None = None

    @property
    def caller(self) -> Caller:
        """The operator as a caller of the registry."""
        return operator_caller(self.operator, self.permission)


class Authenticator:
    """Authenticates each call."""

    def __init__(self, store: Store, settings: Settings, clients: Clients) -> None:
        self._store = store
        self._clients = clients
        self._accepted = settings.admin_tokens
        self._digests = SecretDigests(settings.common.bus_secrets)
        self._trusted_proxies = settings.common.trusted_proxies
        self._public_url = settings.common.approval_public_url

    async def authenticate(self, request: web.Request, *, by_session: bool) -> Identity:
        """Authenticate a call; raises ProblemError, StoreUnavailable.

        An admin token has precedence over a cookie. `by_session`: a cookie is sufficient.
        """
        given = [one for one in map(_bearer, request.headers.getall("Authorization", [])) if one]
        if len(given) > 1:
            raise _unauthorized()
        if given:
            await self._require_token(request, given[0])
            return Identity(ADMIN_OPERATOR, Permission.MANAGE, token=given[0])
        if by_session and (session := self._session(request)) is not None:
            why = check(
                request.method, request.headers, self._public_url, https=self.over_https(request)
            )
            if why:
                raise ProblemError(CROSS_SITE, why)
            if await self._store.sessions.is_open(session.id):
                return Identity(ADMIN_OPERATOR, Permission.MANAGE, session=session)
        raise _unauthorized()

    async def is_still_valid(self, opened: Identity) -> bool:
        """Return whether the caller's session is still open; raises StoreUnavailable."""
        session = opened.session
        return session is None or (
            self._store.now_ms() < session.expires_at_ms
            and await self._store.sessions.is_open(session.id)
        )

    async def open_session(self, admin_token: str) -> tuple[Session, str]:
        """Open a session with a valid admin token; return it and the cookie's value."""
        session = sessions.Session(
            secrets.token_hex(_SESSION_ID_BYTES), self._store.now_ms() + sessions.LIFE_MS
        )
        await self._store.sessions.open(session.id, sessions.LIFE_MS)
        return session, sessions.sign(session, admin_token)

    async def end_session(self, session: Session) -> None:
        """End a session at every replica; raises StoreUnavailable."""
        await self._store.sessions.end(session.id)

    def over_https(self, request: web.Request) -> bool:
        """Return whether the browser is known to use https."""
        if self._public_url.startswith("https:"):
            return True
        return over_https(request.remote or "", request.headers, self._trusted_proxies)

    def where(self, request: web.Request) -> ClientAddress:
        """Return the client address of a request."""
        found = request.get(_WHERE)
        if found is None:
            found = self._clients.address(request.remote or "", request.headers)
            request[_WHERE] = found
        return found

    def _session(self, request: web.Request) -> Session | None:
        cookie = request.cookies.get(sessions.COOKIE, "")
        return sessions.read(cookie, self._accepted, self._store.now_ms())

    async def _require_token(self, request: web.Request, token: str) -> None:
        """Require the admin token; count a wrong one, clear the failures after a correct one.

        Both cases start with the same read, so without Redis and during a lock-out they cannot be
        distinguished.
        """
        limit_key = self.where(request).address.limit_key
        try:
            right = self._accepted.accepts(token)
        except UnicodeEncodeError:  # the header is not valid text
            right = False
        failures = (await self._store.snapshot([], [limit_key])).failures[limit_key]
        if right and failures is NOTHING_HELD:
            return
        lockouts = self._store.lockouts
        locked_ms = failures.locked_ms([ADMIN_TOKEN], self._store.now_ms())
        if not right and not locked_ms:
            wrong = {ADMIN_TOKEN: [self._digests.of(token)]}
            if not lockouts.knows(limit_key, wrong):
                locked_ms = await lockouts.count(limit_key, wrong)
        if locked_ms:
            raise ProblemError(
                LOCKED_OUT,
                "Find the client that sends wrong or outdated tokens. The lock-out ends by itself, "
                "or lift it from another address.",
                {"Retry-After": str(ceil(locked_ms / 1000))},
            )
        if not right:
            raise _unauthorized()
        if failures.holds([ADMIN_TOKEN]):
            await lockouts.clear(limit_key, [ADMIN_TOKEN])


def _bearer(header: str) -> str:
    """Return the token of an Authorization header; empty for other schemes."""
    scheme, _, rest = header.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


def _unauthorized() -> ProblemError:
    return ProblemError(
        UNAUTHORIZED,
        "Send the header `Authorization: Bearer <APPROVAL_ADMIN_TOKEN>`, or sign in at /setup.",
        {"WWW-Authenticate": 'Bearer realm="latchkey"'},
    )
