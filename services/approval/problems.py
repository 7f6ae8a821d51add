"""What is wrong with a call of the API, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog
from aiohttp import web

from services.approval import log_events
from services.approval.domain import errors
from shared.observability.json_logger import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:latchkey:problem:"
DETAIL_LIMIT_CHARACTERS: Final = 300
RETRY_AFTER_SECONDS: Final = 2


class Kind(NamedTuple):
    """One kind of problem: the last part of its `type`, its status, and its title."""

    name: str
    status: int
    title: str


MALFORMED: Final = Kind("malformed", 400, "The call is malformed")
UNAUTHORIZED: Final = Kind("unauthorized", 401, "The admin token is missing or wrong")
CROSS_SITE: Final = Kind("cross-site", 403, "The call does not come from the operators' page")
NOT_ALLOWED: Final = Kind("not-allowed", 403, "The caller may not do this")
INVALID_SCOPE: Final = Kind("invalid-scope", 403, "A scope cannot be granted here")
NOT_FOUND: Final = Kind("not-found", 404, "Nothing is at this path")
UNKNOWN_REQUEST: Final = Kind("unknown-request", 404, "No such request")
UNKNOWN_DEVICE: Final = Kind("unknown-device", 404, "No such device is paired")
UNKNOWN_ROLE: Final = Kind("unknown-role", 404, "The device holds no token of this role")
UNKNOWN_LOCKOUT: Final = Kind("unknown-lockout", 404, "No such lock-out runs")
METHOD: Final = Kind("method-not-allowed", 405, "The method is not served at this path")
APPROVED: Final = Kind("request-approved", 409, "The request was approved before")
REJECTED: Final = Kind("request-rejected", 409, "The request was rejected before")
SUPERSEDED: Final = Kind("request-superseded", 409, "The device has asked for something else since")
DISPLACED: Final = Kind("request-displaced", 409, "Newer requests have displaced this one")
GRANTS_ADMIN: Final = Kind("grants-admin", 409, "Approving gives the device operator.admin")
NOT_EMPTY: Final = Kind("not-empty", 409, "Devices are paired here already")
OTHER_RESTORE: Final = Kind("other-restore", 409, "The restore does not stand where this goes on")
UNSOUND: Final = Kind("unsound-device", 409, "A device of the backup contradicts itself")
EXPIRED: Final = Kind("request-expired", 410, "The request has expired")
TOO_LARGE: Final = Kind("too-large", 413, "The body is too large")
MEDIA: Final = Kind("media-type", 415, "The body is not application/json")
LOCKED_OUT: Final = Kind("locked-out", 429, "Too many wrong admin tokens came from this address")
INTERNAL: Final = Kind("internal", 500, "The service failed")
LISTENERS: Final = Kind("too-many-listeners", 503, "Too many listen at this replica already")
BACKUPS: Final = Kind("too-many-backups", 503, "Backups are being read at this replica already")
UNREADABLE: Final = Kind("unreadable-record", 503, "What is kept of it cannot be read")
UNAVAILABLE: Final = Kind("store-unavailable", 503, "Redis did not answer; the outcome is unknown")

_ENDED: Final[Mapping[str, tuple[Kind, str]]] = {
    "approved": (APPROVED, "If the device is no longer paired, it has to ask again."),
    "rejected": (REJECTED, "If the device is to come in after all, let it connect again."),
    "superseded": (
        SUPERSEDED,
        "Look at successorRequestId, and approve that one if it is what you want.",
    ),
    "displaced": (
        DISPLACED,
        "Too many requests came from its address. Let the device connect again.",
    ),
    "expired": (EXPIRED, "The device stopped asking. Let it connect again."),
}


_WRONG: Final[Mapping[type[errors.RegistryError], tuple[Kind, str]]] = {
    errors.NotAllowed: (NOT_ALLOWED, "The caller's rights do not reach so far."),
    errors.MissingScope: (NOT_ALLOWED, "The caller does not hold this scope itself."),
    errors.UnknownRequest: (UNKNOWN_REQUEST, "It never was, or it ended more than a day ago."),
    errors.UnknownDevice: (UNKNOWN_DEVICE, "It never was paired, or it was removed."),
    errors.UnknownRole: (UNKNOWN_ROLE, "It never had one, or it was revoked."),
    errors.UnknownLockout: (UNKNOWN_LOCKOUT, "It has ended by itself, or was lifted."),
    errors.InvalidLabel: (MALFORMED, "label: 1 to 64 characters, not all of them blank."),
    errors.GrantsAdmin: (
        GRANTS_ADMIN,
        "operator.admin is full control. If that is meant, approve with allowAdmin true.",
    ),
    errors.InvalidScope: (
        INVALID_SCOPE,
        "It was never approved for this device, or belongs to none of the requested roles.",
    ),
    errors.NotEmpty: (NOT_EMPTY, "Nothing is restored over them: restore into an empty Redis."),
    errors.OtherRestore: (OTHER_RESTORE, "Begin it anew, in an empty Redis."),
    errors.UnsoundDevice: (UNSOUND, "Its id, its key or its roles do not belong together."),
    errors.UnreadableRecord: (
        UNREADABLE,
        "Nobody gets in with it. Remove the device, and let it ask again.",
    ),
    errors.StoreUnavailable: (
        UNAVAILABLE,
        "What was asked may or may not have been done. Asking again is safe.",
    ),
}
_BUG: Final = (INTERNAL, "The service's log has the reason.")


class Problem(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """What went wrong; `type` is for programs, `title` and `detail` are for people."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str = ""
    successor_request_id: str = ""
    device_id: str = ""
    role: str = ""
    scope: str = ""


class ProblemError(Exception):
    """A call ends with this problem."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        headers: Mapping[str, str] | None = None,
        *,
        successor: str = "",
        scope: str = "",
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.successor = successor
        self.scope = scope


class Ids(msgspec.Struct, rename="camel", frozen=True):
    """What a call is about, once its path is read: it stands in its problems and its log line."""

    request_id: str = ""
    device_id: str = ""
    role: str = ""
    credential: str = ""
    locked_address: str = ""


IDS: Final = web.RequestKey("ids", Ids)

_encode: Final = msgspec.json.Encoder().encode


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error of a call with a problem."""
    try:
        return await handler(request)
    except ProblemError as error:
        refused = error
    except errors.RegistryError as error:
        refused = _by_registry(error)
    except web.HTTPException as error:
        refused = _by_aiohttp(error)
    except Exception:  # noqa: BLE001 (the last line of defence: nothing of it goes out)
        structlog.get_logger("approval").exception(log_events.CALL_FAILED.name)
        refused = ProblemError(*_BUG)
    return _response(request, refused)


def _by_registry(error: errors.RegistryError) -> ProblemError:
    if isinstance(error, errors.RequestOver):
        kind, detail = _ENDED.get(error.state, _BUG)
        return ProblemError(kind, detail, successor=error.successor)
    headers: dict[str, str] = {}
    if isinstance(error, errors.StoreUnavailable):
        structlog.get_logger("approval").warning(
            log_events.STORE_UNAVAILABLE.name, error=str(error)
        )
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    kind, detail = _WRONG.get(type(error), _BUG)
    return ProblemError(kind, detail, headers, scope=getattr(error, "scope", ""))


def _by_aiohttp(error: web.HTTPException) -> ProblemError:
    """Say in our form what aiohttp itself found wrong."""
    if isinstance(error, web.HTTPNotFound):
        return ProblemError(NOT_FOUND, "GET /openapi.json says what there is.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ProblemError(METHOD, f"Served here: {allowed}.", {"Allow": allowed})
    status = HTTPStatus(error.status)
    return ProblemError(
        Kind(f"http-{error.status}", error.status, status.phrase), status.description
    )


def _response(request: web.Request, refused: ProblemError) -> web.Response:
    ids = request.get(IDS) or Ids()
    kind = refused.kind
    problem = Problem(
        type=TYPE_PREFIX + kind.name,
        title=kind.title,
        status=kind.status,
        detail=printable(refused.detail)[:DETAIL_LIMIT_CHARACTERS],
        request_id=ids.request_id,
        successor_request_id=refused.successor,
        device_id=ids.device_id,
        role=ids.role,
        scope=printable(refused.scope),
    )
    return web.Response(
        body=_encode(problem),
        status=kind.status,
        content_type=MEDIA_TYPE,
        headers=refused.headers,
    )
