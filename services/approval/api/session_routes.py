"""Sign-in and sign-out for the operators' page, including the session cookie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from msgspec import UNSET

from services.approval.access import sessions
from services.approval.api.calls import read_call
from services.approval.schemas.sessions import EndedSession, OpenSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.approval.access.authenticator import Authenticator, Identity
    from services.approval.api.operations import Operation

    View = Callable[[web.Request, Operation, Identity], Awaitable[web.Response]]

_encode: Final = msgspec.json.Encoder().encode


class SessionViews:
    """Opens, shows and ends sessions. `gateway_url`: where devices connect, if known."""

    def __init__(self, authenticator: Authenticator, gateway_url: str) -> None:
        self._authenticator = authenticator
        self._gateway_url = gateway_url or UNSET
        self.by_id: Final[Mapping[str, View]] = {
            "openSession": self._open,
            "readSession": self._read,
            "endSession": self._end,
        }

    async def _open(
        self, request: web.Request, operation: Operation, opened: Identity
    ) -> web.Response:
        await read_call(request, operation)
        session, cookie = await self._authenticator.open_session(opened)
        response = self._response(opened, session)
        response.set_cookie(
            sessions.COOKIE,
            cookie,
            max_age=sessions.LIFE_MS // 1000,
            path=sessions.COOKIE_PATH,
            secure=self._authenticator.over_https(request),
            httponly=True,
            samesite="Strict",
        )
        return response

    async def _read(
        self, request: web.Request, operation: Operation, opened: Identity
    ) -> web.Response:
        await read_call(request, operation)
        return self._response(opened, opened.session)

    async def _end(
        self, request: web.Request, operation: Operation, opened: Identity
    ) -> web.Response:
        await read_call(request, operation)
        if opened.session is not None:
            await self._authenticator.end_session(opened.session)
        response = _json(EndedSession(opened.session is not None))
        response.del_cookie(
            sessions.COOKIE,
            path=sessions.COOKIE_PATH,
            secure=self._authenticator.over_https(request),
            httponly=True,
            samesite="Strict",
        )
        return response

    def _response(self, opened: Identity, session: sessions.Session | None) -> web.Response:
        return _json(
            OpenSession(
                operator=opened.operator,
                permission=opened.permission.label,
                signed_in_by="session" if session else opened.signed_in_by,
                expires_at_ms=session.expires_at_ms if session else UNSET,
                gateway_url=self._gateway_url,
            )
        )


def _json(body: msgspec.Struct) -> web.Response:
    return web.Response(body=_encode(body), content_type="application/json")
