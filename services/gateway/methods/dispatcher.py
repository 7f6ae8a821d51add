"""Dispatches the request frames of an admitted client. Pure: a frame in, a reply out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.clock import NS_PER_MS
from shared.protocol.closing import CloseCode
from shared.protocol.frames import (
    BrokenFrame,
    ErrorBody,
    NotJson,
    RequestFrame,
    decode_request,
    failure,
    success,
)
from shared.protocol.limits import UNAUTHORIZED_CALLS_LIMIT
from shared.protocol.methods import METHODS, OPERATOR
from shared.protocol.refusals import missing_scope
from shared.protocol.schema import params_problems, parse
from shared.protocol.scopes import ADMIN, covers

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import Session
    from shared.clock import Clock
    from shared.protocol.methods import Method


@dataclass(frozen=True, slots=True)
class MethodCall:
    """A valid call of a method that approval answers."""

    frame_id: str
    method: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of one frame: a frame to send, a close after it, or a call to forward."""

    frame: bytes | None = None
    close: tuple[CloseCode, str] | None = None
    call: MethodCall | None = None


_IGNORED: Final = Reply()


class Dispatcher:
    """Checks role, scope and parameters of a request, then answers or forwards it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_frame(self, session: Session, text: bytes) -> Reply:
        """Return the reply to one request frame; frames that are not JSON are ignored."""
        try:
            request = decode_request(text)
        except NotJson:
            return _IGNORED
        except BrokenFrame as broken:
            message = f"invalid request frame: {broken.problem}"
            return Reply(failure(broken.frame_id, ErrorBody("INVALID_REQUEST", message)))
        return self._dispatch(session, request)

    def _dispatch(self, session: Session, request: RequestFrame) -> Reply:
        if request.method == "connect":
            return _invalid(request, "connect is only valid as the first request")
        method = METHODS.get(request.method)
        if method is not None and session.protocol not in method.protocols:
            method = None
        if session.role not in (method.roles if method else OPERATOR):
            return _outside_role(session, request)
        session.unauthorized_calls = 0
        scope = method.scope if method else ADMIN
        if scope is not None and not covers(session.scopes, scope, session.role):
            return Reply(failure(request.id, missing_scope(scope, session.protocol)))
        if method is None:
            return _invalid(request, f"unknown method: {request.method}")
        if request.method == "health":
            now_ms = self._clock.wall_ns() // NS_PER_MS
            return Reply(success(request.id, {"ok": True, "ts": now_ms}))
        return _forward(request, method)


def _forward(request: RequestFrame, method: Method) -> Reply:
    try:
        params = parse(bytes(request.params))
    except ValueError:
        return _IGNORED
    problems = params_problems(params, method.params) if method.params else []
    if problems:
        return _invalid(request, f"invalid {request.method} params: {problems[0]}")
    return Reply(call=MethodCall(request.id, request.method, params))


def _invalid(request: RequestFrame, message: str) -> Reply:
    return Reply(failure(request.id, ErrorBody("INVALID_REQUEST", message)))


def _outside_role(session: Session, request: RequestFrame) -> Reply:
    session.unauthorized_calls += 1
    reply = _invalid(request, f"unauthorized role: {session.role}")
    if session.unauthorized_calls > UNAUTHORIZED_CALLS_LIMIT:
        return Reply(reply.frame, (CloseCode.POLICY, "repeated unauthorized calls"))
    return reply
