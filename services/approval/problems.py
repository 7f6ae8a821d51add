"""Errors of API calls as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog
from aiohttp import web

from services.approval import log_events
from services.approval.domain import errors
from shared.observability.json_lines import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:latchkey:problem:"
DETAIL_LIMIT_CHARACTERS: Final = 300
RETRY_AFTER_SECONDS: Final = 2


class Kind(NamedTuple):
    """A kind of problem: the last part of its `type`, its status and its title."""

    name: str
    status: int
    title: str


MALFORMED: Final = Kind("malformed", 400, "The request is malformed")
UNAUTHORIZED: Final = Kind("unauthorized", 401, "The operator's token is missing or wrong")
CROSS_SITE: Final = Kind("cross-site", 403, "The request does not come from the operators' page")
NOT_ALLOWED: Final = Kind("not-allowed", 403, "The caller may not do this")
INVALID_SCOPE: Final = Kind("invalid-scope", 403, "A scope cannot be granted here")
NOT_FOUND: Final = Kind("not-found", 404, "Nothing exists at this path")
UNKNOWN_REQUEST: Final = Kind("unknown-request", 404, "No such request")
UNKNOWN_DEVICE: Final = Kind("unknown-device", 404, "No such device is paired")
UNKNOWN_ROLE: Final = Kind("unknown-role", 404, "The device holds no token for this role")
UNKNOWN_OPERATOR: Final = Kind("unknown-operator", 404, "No such operator")
UNKNOWN_RULE: Final = Kind("unknown-rule", 404, "No such approval rule")
UNKNOWN_SETUP_CODE: Final = Kind("unknown-setup-code", 404, "No such setup code is live")
UNKNOWN_WEBHOOK: Final = Kind("unknown-webhook", 404, "No such target of notifications")
UNKNOWN_LOCKOUT: Final = Kind("unknown-lockout", 404, "No such lock-out is active")
METHOD: Final = Kind("method-not-allowed", 405, "The method is not served at this path")
APPROVED: Final = Kind("request-approved", 409, "The request was already approved")
REJECTED: Final = Kind("request-rejected", 409, "The request was already rejected")
SUPERSEDED: Final = Kind("request-superseded", 409, "The device has since made another request")
DISPLACED: Final = Kind("request-displaced", 409, "Newer requests have displaced this one")
GRANTS_ADMIN: Final = Kind("grants-admin", 409, "Approval would grant the device operator.admin")
NOT_EMPTY: Final = Kind("not-empty", 409, "Devices are already paired here")
OTHER_RESTORE: Final = Kind("other-restore", 409, "This does not continue the restore in progress")
UNSOUND: Final = Kind("unsound-device", 409, "A device in the backup is inconsistent")
OPERATOR_EXISTS: Final = Kind("operator-exists", 409, "An operator has this name already")
BUILT_IN: Final = Kind("built-in-operator", 409, "This operator is set by APPROVAL_ADMIN_TOKEN")
EXPIRES_IN_PAST: Final = Kind("expires-in-past", 409, "The time of expiry has passed already")
TOO_MANY_OPERATORS: Final = Kind("too-many-operators", 409, "No further operator can be created")
RULE_EXISTS: Final = Kind("rule-exists", 409, "An approval rule has this name already")
TOO_MANY_RULES: Final = Kind("too-many-rules", 409, "No further approval rule can be added")
INVALID_RULE: Final = Kind("invalid-rule", 409, "The approval rule contradicts itself")
TOO_MANY_SETUP_CODES: Final = Kind("too-many-setup-codes", 409, "Too many setup codes are live")
NO_GATEWAY_URL: Final = Kind("no-gateway-url", 409, "No gateway address is configured")
INVALID_GATEWAY_URL: Final = Kind(
    "invalid-gateway-url", 409, "Devices could not connect to this gateway address"
)
INSECURE_GATEWAY_URL: Final = Kind(
    "insecure-gateway-url", 409, "A setup code for a public gateway requires wss://"
)
NO_JOIN_URL: Final = Kind("no-join-url", 409, "No join URL can be created")
EXPIRED: Final = Kind("request-expired", 410, "The request has expired")
TOO_LARGE: Final = Kind("too-large", 413, "The body is too large")
MEDIA: Final = Kind("media-type", 415, "The body is not application/json")
LOCKED_OUT: Final = Kind("locked-out", 429, "Too many wrong operator tokens from this address")
INTERNAL: Final = Kind("internal", 500, "Internal error")
LISTENERS: Final = Kind("too-many-listeners", 503, "This replica has too many event listeners")
BUSY: Final = Kind("busy", 503, "Too many requests are in progress")
BACKUPS: Final = Kind("too-many-backups", 503, "This replica already serves other backups")
UNREADABLE: Final = Kind("unreadable-record", 503, "The stored record cannot be read")
UNAVAILABLE: Final = Kind("store-unavailable", 503, "Redis did not answer; the outcome is unknown")

_ENDED: Final[Mapping[str, tuple[Kind, str]]] = {
    "approved": (APPROVED, "If the device is no longer paired, it has to connect again."),
    "rejected": (REJECTED, "To approve the device after all, let it connect again."),
    "superseded": (
        SUPERSEDED,
        "Review the request in successorRequestId and approve that one instead.",
    ),
    "displaced": (
        DISPLACED,
        "Too many requests came from the device's address or network. Let it connect again.",
    ),
    "expired": (EXPIRED, "The device has not connected for too long. Let it connect again."),
}


_WRONG: Final[Mapping[type[errors.RegistryError], tuple[Kind, str]]] = {
    errors.NotAllowed: (NOT_ALLOWED, "The caller's rights are not sufficient."),
    errors.MissingScope: (NOT_ALLOWED, "The caller does not hold this scope itself."),
    errors.UnknownRequest: (
        UNKNOWN_REQUEST,
        "It does not exist, or it ended more than a day ago.",
    ),
    errors.UnknownDevice: (UNKNOWN_DEVICE, "It was never paired, or it was removed."),
    errors.UnknownRole: (UNKNOWN_ROLE, "It never had one, or it was revoked."),
    errors.UnknownLockout: (UNKNOWN_LOCKOUT, "It has expired, or it was lifted."),
    errors.UnknownOperator: (UNKNOWN_OPERATOR, "It was never created, or it was revoked."),
    errors.UnknownWebhook: (UNKNOWN_WEBHOOK, "WEBHOOK_TARGETS has no such target."),
    errors.InvalidName: (MALFORMED, "name: 1 to 32 of a-z, 0-9 and -, beginning with a letter."),
    errors.OperatorExists: (OPERATOR_EXISTS, "Choose another name, or revoke that operator first."),
    errors.TooManyOperators: (TOO_MANY_OPERATORS, "Revoke one that is no longer needed."),
    errors.InvalidExpiry: (EXPIRES_IN_PAST, "Choose a time in the future."),
    errors.UnknownRule: (UNKNOWN_RULE, "It was never added, or it was removed."),
    errors.RuleExists: (RULE_EXISTS, "Choose another name, or remove that rule first."),
    errors.TooManyRules: (TOO_MANY_RULES, "Remove one that has expired or is used up."),
    errors.InvalidRule: (INVALID_RULE, "See the description of its fields."),
    errors.UnknownSetupCode: (UNKNOWN_SETUP_CODE, "It was used, revoked or has expired."),
    errors.TooManySetupCodes: (TOO_MANY_SETUP_CODES, "Revoke some, or wait until they expire."),
    errors.NoGatewayUrl: (NO_GATEWAY_URL, "Set GATEWAY_PUBLIC_URL, or send gatewayUrl."),
    errors.InvalidGatewayUrl: (
        INVALID_GATEWAY_URL,
        "Give the gateways' address, such as wss://gateway.example.com.",
    ),
    errors.InsecureGatewayUrl: (
        INSECURE_GATEWAY_URL,
        "Over plain ws:// others could read the code. Use the gateways' https:// address.",
    ),
    errors.NoJoinUrl: (NO_JOIN_URL, "It requires wss://, except on loopback."),
    errors.JoinNeedsNode: (NO_JOIN_URL, "It requires the profile `node`."),
    errors.InvalidLabel: (MALFORMED, "label: 1 to 64 characters, not all blank."),
    errors.GrantsAdmin: (
        GRANTS_ADMIN,
        "operator.admin is full control. If that is intended, approve with allowAdmin true.",
    ),
    errors.InvalidScope: (
        INVALID_SCOPE,
        "It was never approved for this device, or belongs to none of the requested roles.",
    ),
    errors.NotEmpty: (NOT_EMPTY, "A restore does not overwrite devices: use an empty Redis."),
    errors.OtherRestore: (OTHER_RESTORE, "Start the restore again in an empty Redis."),
    errors.UnsoundDevice: (UNSOUND, "Its id, key and roles do not match."),
    errors.UnreadableRecord: (
        UNREADABLE,
        "If it is a device's, the device is not admitted: remove it, and let it connect again.",
    ),
    errors.TooLate: (UNAVAILABLE, "The deadline has passed, so nothing was done."),
    errors.StoreUnavailable: (
        UNAVAILABLE,
        "The operation may or may not have been done. It is safe to repeat it.",
    ),
}
_BUG: Final = (INTERNAL, "See the service's log for the cause.")


class Problem(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Body of an error response; `type` is for programs, `title` and `detail` are for people."""

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
    """Ends a call with a problem."""

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
    """Ids from a call's path, included in its problems and its log line."""

    request_id: str = ""
    device_id: str = ""
    role: str = ""
    credential: str = ""
    locked_address: str = ""
    operator_name: str = ""
    setup_id: str = ""
    webhook_name: str = ""
    rule_name: str = ""


IDS: Final = web.RequestKey("ids", Ids)

_encode: Final = msgspec.json.Encoder().encode


def problem_response(request: web.Request, error: Exception) -> web.Response:
    """Turn an error of a call into a problem response. Details of a bug do not reach the client."""
    if isinstance(error, ProblemError):
        refused = error
    elif isinstance(error, errors.RegistryError):
        refused = _by_registry(error)
    elif isinstance(error, web.HTTPException):
        refused = _by_aiohttp(error)
    else:
        structlog.get_logger("approval").error(log_events.CALL_FAILED.name, exc_info=error)
        refused = ProblemError(*_BUG)
    return _response(request, refused)


def _by_registry(error: errors.RegistryError) -> ProblemError:
    if isinstance(error, errors.RequestOver):
        kind, detail = _ENDED.get(error.state, _BUG)
        return ProblemError(kind, detail, successor=error.successor)
    if isinstance(error, errors.InvalidRule):
        return ProblemError(INVALID_RULE, f"{error}.")
    headers: dict[str, str] = {}
    if isinstance(error, errors.StoreUnavailable):
        structlog.get_logger("approval").warning(
            log_events.STORE_UNAVAILABLE.name, error=str(error)
        )
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    kind, detail = _WRONG.get(type(error), _BUG)
    return ProblemError(kind, detail, headers, scope=getattr(error, "scope", ""))


def _by_aiohttp(error: web.HTTPException) -> ProblemError:
    """Convert aiohttp's own errors into problems."""
    if isinstance(error, web.HTTPNotFound):
        return ProblemError(NOT_FOUND, "GET /openapi.json lists all paths.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ProblemError(METHOD, f"Allowed here: {allowed}.", {"Allow": allowed})
    status = HTTPStatus(error.status)
    return ProblemError(
        Kind(f"http-{error.status}", error.status, status.phrase), status.description
    )


def busy_response() -> web.Response:
    """Return the response to a request that waited too long for its turn."""
    problem = Problem(
        type=TYPE_PREFIX + BUSY.name,
        title=BUSY.title,
        status=BUSY.status,
        detail="The request had no turn in time, so nothing was done.",
    )
    return web.Response(
        body=_encode(problem),
        status=BUSY.status,
        content_type=MEDIA_TYPE,
        headers={
            "Cache-Control": "no-store",
            "Retry-After": str(RETRY_AFTER_SECONDS),
            "X-Content-Type-Options": "nosniff",
        },
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
