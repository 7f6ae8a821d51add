"""What is wrong with a call of the API, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog
from aiohttp import web

from services.approval import errors, log_events
from shared.observability.logs import printable

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
NOT_ALLOWED: Final = Kind("not-allowed", 403, "The caller may not do this")
INVALID_SCOPE: Final = Kind("invalid-scope", 403, "A scope cannot be granted here")
NOT_FOUND: Final = Kind("not-found", 404, "Nothing is at this path")
UNKNOWN_REQUEST: Final = Kind("unknown-request", 404, "No such request")
UNKNOWN_DEVICE: Final = Kind("unknown-device", 404, "No such device is paired")
UNKNOWN_ROLE: Final = Kind("unknown-role", 404, "The device holds no token of this role")
METHOD: Final = Kind("method-not-allowed", 405, "The method is not served at this path")
APPROVED: Final = Kind("request-approved", 409, "The request was approved before")
REJECTED: Final = Kind("request-rejected", 409, "The request was rejected before")
SUPERSEDED: Final = Kind("request-superseded", 409, "The device has asked for something else since")
DISPLACED: Final = Kind("request-displaced", 409, "Newer requests have displaced this one")
EXPIRED: Final = Kind("request-expired", 410, "The request has expired")
TOO_LARGE: Final = Kind("too-large", 413, "The body is too large")
MEDIA: Final = Kind("media-type", 415, "The body is not application/json")
INTERNAL: Final = Kind("internal", 500, "The service failed")
UNAVAILABLE: Final = Kind("store-unavailable", 503, "Redis did not answer; the outcome is unknown")

KINDS: Final = (
    MALFORMED,
    UNAUTHORIZED,
    NOT_ALLOWED,
    INVALID_SCOPE,
    NOT_FOUND,
    UNKNOWN_REQUEST,
    UNKNOWN_DEVICE,
    UNKNOWN_ROLE,
    METHOD,
    APPROVED,
    REJECTED,
    SUPERSEDED,
    DISPLACED,
    EXPIRED,
    TOO_LARGE,
    MEDIA,
    INTERNAL,
    UNAVAILABLE,
)

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


class Refused(Exception):  # noqa: N818 (what is wrong is the name)
    """The call is refused before it reaches the registry."""

    def __init__(self, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers or {}


class Ids(msgspec.Struct, rename="camel"):
    """What a call is about, once its path is read: it stands in its problems and its log line."""

    request_id: str = ""
    device_id: str = ""
    role: str = ""


IDS: Final = web.RequestKey("ids", Ids)

_encode: Final = msgspec.json.Encoder().encode


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error of a call with a problem."""
    try:
        return await handler(request)
    except errors.StoreUnavailable as error:
        structlog.get_logger("approval").warning(
            log_events.STORE_UNAVAILABLE.name, error=str(error)
        )
        return _response(
            request,
            UNAVAILABLE,
            "It may or may not have been done. Asking again is safe; look at the result.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    except errors.RegistryError as error:
        return _registry_problem(request, error)
    except Refused as refused:
        return _response(request, refused.kind, refused.detail, headers=refused.headers)
    except web.HTTPMethodNotAllowed as error:
        return _response(
            request,
            METHOD,
            f"Served here: {error.headers['Allow']}.",
            headers={"Allow": error.headers["Allow"]},
        )
    except web.HTTPException as error:
        return _http_problem(request, error)
    except Exception:
        structlog.get_logger("approval").exception(log_events.CALL_FAILED.name)
        return _response(request, INTERNAL, "The service's log has the reason.")


def _registry_problem(request: web.Request, error: errors.RegistryError) -> web.Response:
    match error:
        case errors.MissingScope(scope=scope):
            return _response(request, NOT_ALLOWED, f"It needs the scope {scope}.", scope=scope)
        case errors.NotAllowed():
            return _response(request, NOT_ALLOWED, "The caller's rights do not reach so far.")
        case errors.UnknownRequest():
            return _response(
                request, UNKNOWN_REQUEST, "It never was, or it ended more than a day ago."
            )
        case errors.RequestOver(state=state, successor=successor):
            kind, detail = _ENDED[state]
            return _response(request, kind, detail, successor=successor)
        case errors.UnknownDevice():
            return _response(request, UNKNOWN_DEVICE, "It never was paired, or it was removed.")
        case errors.UnknownRole():
            return _response(request, UNKNOWN_ROLE, "It never had one, or it was revoked.")
        case errors.InvalidLabel():
            return _response(request, MALFORMED, "label: 1 to 64 characters that are not blank.")
        case errors.InvalidScope(scope=scope):
            detail = "It was never approved for the device, or belongs to none of its roles."
            return _response(request, INVALID_SCOPE, detail, scope=scope)
    structlog.get_logger("approval").error(log_events.CALL_FAILED.name, error=repr(error))
    return _response(request, INTERNAL, "The service's log has the reason.")


def _http_problem(request: web.Request, error: web.HTTPException) -> web.Response:
    """Say in our form what aiohttp itself found wrong."""
    if error.status == HTTPStatus.NOT_FOUND:
        return _response(request, NOT_FOUND, "GET /openapi.json says what there is.")
    status = HTTPStatus(error.status)
    kind = next((kind for kind in KINDS if kind.status == status), None)
    kind = kind or Kind(f"http-{error.status}", error.status, status.phrase)
    return _response(request, kind, status.description or status.phrase)


def _response(
    request: web.Request,
    kind: Kind,
    detail: str,
    *,
    successor: str = "",
    scope: str = "",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    ids = request.get(IDS) or Ids()
    problem = Problem(
        type=TYPE_PREFIX + kind.name,
        title=kind.title,
        status=kind.status,
        detail=printable(detail)[:DETAIL_LIMIT_CHARACTERS],
        request_id=ids.request_id,
        successor_request_id=successor,
        device_id=ids.device_id,
        role=ids.role,
        scope=printable(scope),
    )
    return web.Response(
        body=_encode(problem), status=kind.status, content_type=MEDIA_TYPE, headers=headers
    )
