"""Authenticates callers of the HTTP API: by token, by session, or by an identity-aware proxy.

Wrong tokens are counted per client address across all replicas, like other secrets. Too many
different ones lock the address out. During a lock-out, and while counting is not possible, a
correct token gets the same answer as a wrong one. Sessions cannot be guessed, so they are neither
counted nor affected by a lock-out. Named operators are read from Redis for every call, so that a
revocation takes effect at once at every replica. Authorization headers with a scheme other than
Bearer are ignored, because browsers and proxies send them on their own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from aiohttp import web

from services.approval.access import sessions
from services.approval.access.csrf import check
from services.approval.access.proxy_identity import identify
from services.approval.domain.authorization import ADMIN_OPERATOR, operator_caller
from services.approval.domain.lockout import ADMIN_TOKEN, NOTHING_HELD
from services.approval.domain.operators import name_in
from services.approval.domain.permissions import Permission
from services.approval.problems import CROSS_SITE, LOCKED_OUT, UNAUTHORIZED, ProblemError
from services.approval.storage.sessions import OF_ADMIN
from shared.addresses.client import ClientAddress, is_trusted, over_https, parse_address
from shared.secret_digests import SecretDigests

if TYPE_CHECKING:
    from services.approval.access.sessions import Session
    from services.approval.domain.authorization import Caller
    from services.approval.domain.lockout import FailureCounts
    from services.approval.domain.operators import OperatorRecord
    from services.approval.metrics import Metrics
    from services.approval.schemas.sessions import SignedInBy
    from services.approval.settings import Settings
    from services.approval.storage.store import Store
    from shared.server.clients import Clients

PROXY_STREAM_MS: Final = 600_000
"""An event stream of an operator signed in by a proxy ends after this long: the proxy, which alone
knows whether the operator may still enter, is asked again when the client reconnects."""

_SESSION_ID_BYTES: Final = 16
_WHERE: Final = web.RequestKey("where", ClientAddress)


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated operator.

    `operator_id` identifies a named operator's token; empty for the others. `token` is the bearer
    token that was sent, `session` the session that was used. `proxied_until_ms`: the operator was
    signed in by a proxy, and a stream may last until then (store's clock).
    """

    operator: str
    permission: Permission
    operator_id: str = ""
    token: str = ""
    session: Session | None = None
    expires_at_ms: int = 0
    proxied_until_ms: int = 0

    @property
    def caller(self) -> Caller:
        """The operator as a caller of the registry."""
        return operator_caller(self.operator, self.permission)

    @property
    def signed_in_by(self) -> SignedInBy:
        """How the operator was authenticated."""
        if self.proxied_until_ms:
            return "proxy"
        return "session" if self.session is not None else "token"


class Authenticator:
    """Authenticates each call."""

    def __init__(
        self, store: Store, settings: Settings, clients: Clients, metrics: Metrics
    ) -> None:
        self._store = store
        self._clients = clients
        self._accepted = settings.admin_tokens
        self._token_secrets = settings.token_secrets
        self._digests = SecretDigests(settings.common.bus_secrets)
        self._trusted_proxies = settings.common.trusted_proxies
        self._public_url = settings.common.approval_public_url
        self._proxy = settings.proxy_sign_in
        self._proxy_outcomes = metrics.proxy_sign_ins

    def now_ms(self) -> int:
        """Return the store's time, by which tokens and sessions expire."""
        return self._store.now_ms()

    async def authenticate(self, request: web.Request, *, by_session: bool) -> Identity:
        """Authenticate a call; raises ProblemError, StoreUnavailable.

        A token has precedence over a cookie, and a cookie over the identity that a proxy sends.
        `by_session`: a cookie or such an identity is sufficient.
        """
        given = [one for one in map(_bearer, request.headers.getall("Authorization", [])) if one]
        if len(given) > 1:
            raise _unauthorized()
        if given:
            identity: Identity | None = await self._require_token(request, given[0])
        elif by_session:
            identity = await self._by_session(request) or self._by_proxy(request)
        else:
            identity = None
        if identity is None:
            raise _unauthorized()
        if not identity.proxied_until_ms:
            await self._store.operators.note_use(identity.operator_id or ADMIN_OPERATOR)
        return identity

    async def is_still_valid(self, opened: Identity) -> bool:
        """Return whether an identity still holds; raises StoreUnavailable.

        The admin token does as long as this process runs.
        """
        now_ms = self._store.now_ms()
        if opened.proxied_until_ms:
            return now_ms < opened.proxied_until_ms
        if opened.session is not None:
            return now_ms < opened.session.expires_at_ms and bool(
                await self._session_identity(opened.session)
            )
        if opened.operator_id:
            known = await self._store.operators.all()
            return known.live(opened.operator, opened.operator_id, now_ms) is not None
        return True

    async def open_session(self, opened: Identity) -> tuple[Session, str]:
        """Open a session for a caller with a valid token; return it and the cookie's value."""
        now_ms = self._store.now_ms()
        ends_ms = min(now_ms + sessions.LIFE_MS, opened.expires_at_ms or now_ms + sessions.LIFE_MS)
        named = opened.operator if opened.operator_id else ""
        session = sessions.Session(secrets.token_hex(_SESSION_ID_BYTES), ends_ms, named)
        owner = opened.operator_id.encode() or OF_ADMIN
        await self._store.sessions.open(session.id, ends_ms - now_ms, owner)
        key = self._token_secrets.first if named else opened.token
        return session, sessions.sign(session, key)

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

    def _require_own_site(self, request: web.Request) -> None:
        """Refuse a call that another site may have caused, as browsers authenticate it anyway."""
        why = check(
            request.method, request.headers, self._public_url, https=self.over_https(request)
        )
        if why:
            raise ProblemError(CROSS_SITE, why)

    async def _by_session(self, request: web.Request) -> Identity | None:
        """Authenticate by cookie; None if there is no valid one."""
        cookie = request.cookies.get(sessions.COOKIE, "")
        session = sessions.read(cookie, self._accepted, self._store.now_ms(), self._token_secrets)
        if session is None:
            return None
        self._require_own_site(request)
        return await self._session_identity(session)

    async def _session_identity(self, session: Session) -> Identity | None:
        """Return whose session this is, if it is open and its operator still exists."""
        named = bool(session.operator)
        owner, known = await self._store.operators.with_session(session.id, wanted=named)
        if owner is None:
            return None
        if not named:
            return _admin(session=session) if owner == OF_ADMIN else None
        operator_id = owner.decode(errors="replace")
        record = known.live(session.operator, operator_id, self._store.now_ms())
        return _named(session.operator, record, session=session) if record else None

    def _by_proxy(self, request: web.Request) -> Identity | None:
        """Authenticate by the identity that a trusted proxy sends; None if there is none."""
        header = self._proxy.user_header
        if not header or header not in request.headers:
            return None
        peer = parse_address(request.remote or "")
        if peer is None or not is_trusted(peer.text, self._trusted_proxies):
            self._proxy_outcomes.labels("untrusted").inc()
            return None
        groups_header = self._proxy.groups_header
        groups = request.headers.getall(groups_header, []) if groups_header else []
        found = identify(self._proxy, request.headers.getall(header), groups)
        self._proxy_outcomes.labels(found.outcome).inc()
        if found.permission is None:
            raise ProblemError(UNAUTHORIZED, _PROXY_REFUSALS[found.outcome], _CHALLENGE)
        self._require_own_site(request)
        until_ms = self._store.now_ms() + PROXY_STREAM_MS
        return Identity(found.name, found.permission, proxied_until_ms=until_ms)

    async def _require_token(self, request: web.Request, token: str) -> Identity:
        """Require an operator's token; count a wrong one, clear the failures after a correct one.

        Both cases start with the same read, so without Redis and during a lock-out they cannot be
        distinguished.
        """
        limit_key = self.where(request).address.limit_key
        try:
            of_admin = self._accepted.accepts(token)
        except UnicodeEncodeError:  # the header is not valid text
            of_admin = False
        failures, known = await self._store.operators.with_failures(
            limit_key, wanted=not of_admin and bool(name_in(token))
        )
        now_ms = self._store.now_ms()
        if of_admin:
            identity: Identity | None = _admin(token=token)
        else:
            holder = known.holder_of(token, now_ms)
            identity = _named(*holder, token=token) if holder else None
        if identity is not None and failures is NOTHING_HELD:
            return identity
        locked_ms = await self._weigh(limit_key, token, failures, right=identity is not None)
        if locked_ms:
            raise ProblemError(
                LOCKED_OUT,
                "Find the client that sends wrong or outdated tokens. The lock-out ends by itself, "
                "or lift it from another address.",
                {"Retry-After": str(ceil(locked_ms / 1000))},
            )
        if identity is None:
            raise _unauthorized()
        if failures.holds([ADMIN_TOKEN]):
            await self._store.lockouts.clear(limit_key, [ADMIN_TOKEN])
        return identity

    async def _weigh(
        self, limit_key: str, token: str, failures: FailureCounts, *, right: bool
    ) -> int:
        """Count a wrong token; return for how many ms the address is locked out."""
        lockouts = self._store.lockouts
        locked_ms = failures.locked_ms([ADMIN_TOKEN], self._store.now_ms())
        if not right and not locked_ms:
            wrong = {ADMIN_TOKEN: [self._digests.of(token)]}
            if not lockouts.knows(limit_key, wrong):
                locked_ms = await lockouts.count(limit_key, wrong)
        return locked_ms


def _admin(*, token: str = "", session: Session | None = None) -> Identity:
    return Identity(ADMIN_OPERATOR, Permission.MANAGE, token=token, session=session)


def _named(
    name: str, record: OperatorRecord, *, token: str = "", session: Session | None = None
) -> Identity:
    return Identity(
        name,
        record.held,
        operator_id=record.id,
        token=token,
        session=session,
        expires_at_ms=record.expires_at_ms,
    )


def _bearer(header: str) -> str:
    """Return the token of an Authorization header; empty for other schemes."""
    scheme, _, rest = header.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="latchkey"'}
_PROXY_REFUSALS: Final = {
    "unmapped": "The proxy has signed you in, but OPERATOR_PROXY_PERMISSIONS permits you nothing.",
    "ambiguous": "The proxy sent its user or groups header more than once.",
    "invalid": "The proxy sent a user name that is not usable.",
}


def _unauthorized() -> ProblemError:
    return ProblemError(
        UNAUTHORIZED,
        "Send the header `Authorization: Bearer` with APPROVAL_ADMIN_TOKEN or an operator's token, "
        "or sign in at /setup.",
        _CHALLENGE,
    )
