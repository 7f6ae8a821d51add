"""What an admitted connection may call (contract §1, §9). Pure: a frame in, what to send out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
from shared.protocol.refusals import PROTOCOL_3
from shared.protocol.scopes import ADMIN, covers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.clock import Clock


@dataclass(slots=True)
class Session:
    """What an admitted connection is: who, in which role, with which live scopes."""

    connection_id: str
    protocol: int
    role: str
    scopes: Sequence[str]
    device_id: str
    method: str
    address: str = ""
    """Where it comes from, behind whatever proxy."""
    unauthorized_calls: int = 0
    """Calls outside its role, one after another."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one frame leads to: a frame to send, and a close to follow."""

    frame: bytes | None = None
    close: tuple[CloseCode, str] | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """One method: who may call it, and what answers."""

    roles: frozenset[str]
    scope: str | None
    answer: Callable[[Session], object]


_IGNORED: Final = Turn()
_EVERYBODY: Final = frozenset({"operator", "node"})


class Methods:
    """The methods this gateway answers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.table: Mapping[str, Method] = {
            "health": Method(roles=_EVERYBODY, scope=None, answer=self._health),
        }

    def on_frame(self, session: Session, text: bytes) -> Turn:
        """Serve one frame."""
        try:
            request = decode_request(text)
        except NotJson:
            return _IGNORED
        except BrokenFrame as broken:
            message = f"invalid request frame: {broken.problem}"
            return Turn(failure(broken.frame_id, ErrorBody("INVALID_REQUEST", message)))
        return self._called(session, request)

    def _called(self, session: Session, request: RequestFrame) -> Turn:
        if request.method == "connect":
            return _invalid(request, "connect is only valid as the first request")
        method = self.table.get(request.method)
        roles = method.roles if method else frozenset({"operator"})
        if session.role not in roles:
            return _outside_role(session, request)
        session.unauthorized_calls = 0
        scope = method.scope if method else ADMIN
        if scope is not None and not covers(session.scopes, scope, session.role):
            return _missing_scope(session, request, scope)
        if method is None:
            return _invalid(request, f"unknown method: {request.method}")
        return Turn(success(request.id, method.answer(session)))

    def _health(self, _session: Session) -> dict[str, object]:
        return {"ok": True, "ts": self._clock.wall_ms()}


def _invalid(request: RequestFrame, message: str) -> Turn:
    return Turn(failure(request.id, ErrorBody("INVALID_REQUEST", message)))


def _outside_role(session: Session, request: RequestFrame) -> Turn:
    session.unauthorized_calls += 1
    turn = _invalid(request, f"unauthorized role: {session.role}")
    if session.unauthorized_calls > UNAUTHORIZED_CALLS_LIMIT:
        return Turn(turn.frame, (CloseCode.POLICY, "repeated unauthorized calls"))
    return turn


def _missing_scope(session: Session, request: RequestFrame, scope: str) -> Turn:
    message = f"missing scope: {scope}"
    if session.protocol == PROTOCOL_3:
        return _invalid(request, message)
    details = {"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]}
    return Turn(failure(request.id, ErrorBody("FORBIDDEN", message, details)))
