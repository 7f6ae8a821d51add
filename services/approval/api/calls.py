"""Calls of the HTTP API: each is authenticated, read, carried out, answered and logged."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from msgspec import UNSET
from msgspec.structs import replace

from services.approval import log_events
from services.approval.access.authenticator import Identity
from services.approval.api.parameters import PARAMETERS
from services.approval.backup.service import Part
from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.listing import PART_LIMIT, Wanted, WantedRequests, read_position
from services.approval.problems import (
    IDS,
    LOCKED_OUT,
    MALFORMED,
    MEDIA,
    NOT_ALLOWED,
    NOT_FOUND,
    TOO_LARGE,
    UNAUTHORIZED,
    Ids,
    ProblemError,
    problem_response,
)
from services.approval.registry.queries import PairedPart, WantedRefusals
from services.approval.schemas import devices, lockouts
from services.approval.schemas.history import AuditPage, RestoreProgress
from services.approval.schemas.refusals import (
    OfDevice,
    RecentRefusals,
    refusal_object,
    with_refusals,
)
from services.approval.schemas.replicas import LiveReplicas, replicas_object
from shared.server.http_protocol import note_locked_out, note_operator, note_request
from shared.server.strict_http import SERVER_NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Middleware

    from services.approval.access.authenticator import Authenticator
    from services.approval.api.operations import Operation
    from services.approval.api.parameters import (
        Approve,
        AuditQuery,
        DevicesQuery,
        RefusalsQuery,
        RejectMany,
        RequestsQuery,
        RestorePart,
    )
    from services.approval.backup.service import BackupService
    from services.approval.domain.authorization import Caller
    from services.approval.metrics import Metrics
    from services.approval.registry.registry import Registry

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_LIMIT_BYTES: Final = 65_536
JSON: Final = "application/json"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": SERVER_NAME,
}
"""Headers of every response; `Server` does not reveal the software."""
IDENTITY: Final = web.RequestKey("identity", Identity)
STILL_VALID: Final = web.RequestKey[Any]("still-valid")
"""Returns whether the caller's identity still holds; raises StoreUnavailable."""
BODY_TRUSTED_SECONDS: Final = 0.25
"""If reading a body takes longer, the caller is authenticated again before the call is carried out:
a revoked operator must not hold calls open and finish them later."""
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Call:
    """A validated call; `query` and `body` have the types that its operation declares."""

    caller: Caller
    ids: Ids
    query: Any
    body: Any


def serve_calls(
    metrics: Metrics,
    authenticator: Authenticator,
    operations: Mapping[tuple[str, str], Operation],
    public: Mapping[str, str],
) -> Middleware:
    """Return a middleware that authenticates, carries out, counts, times and logs every call.

    `operations` are found by method and path, `public` has the names of public pages by path. All
    other paths require an operator, before any other processing. Calls that change something are
    logged.
    """
    log = structlog.get_logger("approval").bind()  # unbound, it is set up for each line

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        note_request(request)
        resource = request.match_info.route.resource
        path = resource.canonical if resource else ""
        method = "GET" if request.method == "HEAD" else request.method
        operation = operations.get((method, path))
        name = operation.id if operation else public.get(path, "other")
        began = time.perf_counter()
        response: web.StreamResponse
        identity: Identity | None = None
        try:
            if path not in public and request.match_info.http_exception is None:
                by_session = operation is None or not operation.token_only
                try:
                    identity = request[IDENTITY] = await authenticator.authenticate(
                        request, by_session=by_session
                    )
                    request[STILL_VALID] = partial(authenticator.is_still_valid, identity)
                    note_operator(request)
                except StoreUnavailable:  # the caller is unauthenticated: read nothing but the ids
                    _read_ids(request)
                    raise
                _require_permission(identity, operation)
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 (last resort; a bug is logged)
            response = problem_response(request, error)
            if response.status == LOCKED_OUT.status:
                note_locked_out(request)
        took = time.perf_counter() - began
        metrics.calls.labels(name, str(response.status)).inc()
        if operation is None or not operation.streams:
            metrics.call_seconds.labels(name).observe(took)
        if operation is not None and operation.changes:
            ids = request.get(IDS) or Ids()
            log.info(
                log_events.CALL.name,
                operation=operation.id,
                status=response.status,
                address=authenticator.where(request).address.text,
                milliseconds=round(took * 1000, 1),
                **({"operator": identity.operator} if identity else {}),
                **{key: value for key, value in msgspec.structs.asdict(ids).items() if value},
            )
        return response

    return serve


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers of every response (signal on_response_prepare)."""
    caching = response.headers.get("Cache-Control", HEADERS["Cache-Control"])
    response.headers.update({**HEADERS, "Cache-Control": caching})


def call_handler(
    operation: Operation, carry_out: Callable[[Call], Awaitable[msgspec.Struct]]
) -> Handler:
    """Return the handler that reads a call, carries it out and responds with its result."""

    async def handle(request: web.Request) -> web.Response:
        result = await carry_out(await read_call(request, operation))
        return web.Response(body=_encode(result), content_type=JSON)

    return handle


def _require_permission(identity: Identity, operation: Operation | None) -> None:
    """Require the permission that an operation declares; raises ProblemError.

    A route that is not in the table of operations declares nothing, so nobody may use it.
    """
    if operation is None:
        raise ProblemError(NOT_FOUND, "GET /openapi.json lists all paths.")
    if identity.permission < operation.permission:
        raise ProblemError(
            NOT_ALLOWED,
            f"This needs the permission `{operation.permission.label}`; "
            f"operator {identity.operator} has `{identity.permission.label}`.",
        )


async def read_call(request: web.Request, operation: Operation) -> Call:
    """Read and validate a call; raises ProblemError."""
    _read_ids(request)
    query = _query(request, operation)
    began = time.monotonic()
    body = await _body(request, operation) if operation.changes else None
    if time.monotonic() - began > BODY_TRUSTED_SECONDS and not await request[STILL_VALID]():
        raise ProblemError(UNAUTHORIZED, "The token or session ended while the call was read.")
    return Call(request[IDENTITY].caller, request[IDS], query, body)


def _read_ids(request: web.Request) -> None:
    """Read a call's ids and store them for its problems and log line; raises ProblemError."""
    for name, value in request.match_info.items():
        try:
            if "\n" in value:  # Python's $ also matches before a final line break
                raise msgspec.ValidationError("contains a line break")  # noqa: TRY301
            msgspec.convert(value, PARAMETERS[name])
        except msgspec.ValidationError as error:
            raise ProblemError(MALFORMED, f"{name}: {error}") from None
    request[IDS] = msgspec.convert(dict(request.match_info), Ids)


def _query(request: web.Request, operation: Operation) -> msgspec.Struct:
    given = request.query
    twice = next((name for name in given if len(given.getall(name)) > 1), None)
    if twice is not None:
        raise ProblemError(MALFORMED, f"The query parameter {twice} occurs more than once.")
    try:
        return msgspec.convert(dict(given), operation.query, strict=False)
    except msgspec.ValidationError as error:
        raise ProblemError(MALFORMED, f"Query: {error}.") from None


async def _body(request: web.Request, operation: Operation) -> msgspec.Struct:
    text = await _text(request)
    if not text:
        text = b"{}"
    elif request.content_type != JSON:
        raise ProblemError(MEDIA, f"Send {JSON}.", {"Accept": JSON})
    try:
        return msgspec.convert(_decode(text), operation.body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProblemError(MALFORMED, f"Body: {error}.") from None


def _number(text: str) -> float:
    """Decode a number with a point or an exponent; return whole numbers as integers."""
    number = float(text)
    return int(number) if number.is_integer() else number


_decode: Final = msgspec.json.Decoder(float_hook=_number).decode


async def _text(request: web.Request) -> bytes:
    announced = request.content_length
    text = bytearray()
    try:
        if announced is None or announced <= BODY_LIMIT_BYTES:
            async for chunk in request.content.iter_any():
                text += chunk
                if len(text) > BODY_LIMIT_BYTES:
                    break
            else:
                return bytes(text)
    except (web.RequestPayloadError, PayloadEncodingError):
        raise ProblemError(MALFORMED, "The body cannot be read.") from None
    raise ProblemError(TOO_LARGE, f"At most {BODY_LIMIT_BYTES} bytes.")


class Operations:
    """Implements the operations on devices, replicas, refusals, lock-outs and restores."""

    def __init__(self, registry: Registry, backups: BackupService) -> None:
        self._registry = registry
        self._backups = backups
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "listRequests": self._list_requests,
            "approveRequest": self._approve,
            "rejectRequest": self._reject,
            "rejectRequests": self._reject_many,
            "listDevices": self._list_devices,
            "getDevice": self._device,
            "renameDevice": self._rename,
            "removeDevice": self._remove,
            "rotateToken": self._rotate,
            "revokeToken": self._revoke,
            "readAudit": self._audit,
            "listReplicas": self._replicas,
            "listRefusals": self._refusals,
            "restorePart": self._restore,
            "listLockouts": self._list_lockouts,
            "liftLockout": self._lift_lockout,
        }

    async def _list_requests(self, call: Call) -> devices.PendingRequests:
        query: RequestsQuery = call.query
        wanted = WantedRequests(
            _limit(query),
            None if query.after is UNSET else read_position(query.after),
            query.q,
            query.address,
            0 if query.per_address is UNSET else query.per_address,
            frozenset(query.keep.split(",")),
        )
        found = devices.waiting_part_object(await self._registry.pending_part(call.caller, wanted))
        return replace(found, pending=await self._with_refusals(call.caller, found.pending))

    async def _reject_many(self, call: Call) -> devices.RejectedMany:
        body: RejectMany = call.body
        return devices.rejections_object(
            await self._registry.reject_all(call.caller, body.request_ids)
        )

    async def _approve(self, call: Call) -> devices.Approved:
        body: Approve = call.body
        paired = await self._registry.approve(
            call.caller, call.ids.request_id, allow_admin=body.allow_admin
        )
        return devices.Approved(call.ids.request_id, devices.paired_object(paired))

    async def _reject(self, call: Call) -> devices.Rejected:
        device_id = await self._registry.reject(call.caller, call.ids.request_id)
        return devices.Rejected(call.ids.request_id, device_id)

    async def _list_devices(self, call: Call) -> devices.PairedDevices:
        found = devices.paired_part_object(await self._part(call.caller, call.query))
        return replace(found, devices=await self._with_refusals(call.caller, found.devices))

    async def _part(self, caller: Caller, query: DevicesQuery) -> PairedPart:
        if query.ids:
            named = list(dict.fromkeys(query.ids.split(",")))
            return await self._registry.devices_named(caller, named)
        if query.limit is UNSET and query.after is UNSET and not query.q:
            return await self._registry.devices_all(caller)
        wanted = Wanted(
            _limit(query),
            None if query.after is UNSET else read_position(query.after),
            query.q,
        )
        return await self._registry.devices_part(caller, wanted)

    async def _device(self, call: Call) -> devices.PairedDevice:
        paired = await self._registry.device(call.caller, call.ids.device_id)
        (found,) = await self._with_refusals(call.caller, [devices.paired_object(paired)])
        return found

    async def _rename(self, call: Call) -> devices.Renamed:
        ids = call.ids
        label = await self._registry.rename(call.caller, ids.device_id, call.body.label)
        return devices.Renamed(ids.device_id, label)

    async def _remove(self, call: Call) -> devices.Removed:
        await self._registry.remove(call.caller, call.ids.device_id)
        return devices.Removed(call.ids.device_id)

    async def _rotate(self, call: Call) -> devices.Rotated:
        ids = call.ids
        scopes = None if call.body.scopes is UNSET else call.body.scopes
        token = await self._registry.rotate(call.caller, ids.device_id, ids.role, scopes)
        return devices.rotated_object(ids.device_id, ids.role, token)

    async def _revoke(self, call: Call) -> devices.Revoked:
        ids = call.ids
        token = await self._registry.revoke(call.caller, ids.device_id, ids.role)
        return devices.revoked_object(ids.device_id, ids.role, token)

    async def _replicas(self, call: Call) -> LiveReplicas:
        return replicas_object(await self._registry.replicas(call.caller))

    async def _refusals(self, call: Call) -> RecentRefusals:
        query: RefusalsQuery = call.query
        device_id = "" if query.device_id is UNSET else query.device_id
        wanted = WantedRefusals(query.limit, device_id, only_unknown=query.of == "unknown")
        found = await self._registry.refusals(call.caller, wanted)
        return RecentRefusals(
            [refusal_object(one.entry, one.seen.at if one.seen else 0) for one in found]
        )

    async def _with_refusals(self, caller: Caller, found: list[OfDevice]) -> list[OfDevice]:
        """Return these devices or requests with their recent refusals."""
        refused = await self._registry.refusals_of(caller, [one.device_id for one in found])
        return [with_refusals(one, refused[one.device_id]) for one in found]

    async def _audit(self, call: Call) -> AuditPage:
        query: AuditQuery = call.query
        after = None if query.after is UNSET else query.after
        entries = await self._registry.audit(call.caller, after, query.limit)
        return AuditPage(entries, entries[-1].id if entries else after or 0)

    async def _list_lockouts(self, call: Call) -> lockouts.Lockouts:
        running = await self._registry.lockouts.running(call.caller)
        return lockouts.lockouts_object(running)

    async def _lift_lockout(self, call: Call) -> lockouts.LiftedLockout:
        ids = call.ids
        lifted = await self._registry.lockouts.lift(call.caller, ids.credential, ids.locked_address)
        return lockouts.LiftedLockout(lockouts.lockout_object(lifted))

    async def _restore(self, call: Call) -> RestoreProgress:
        body: RestorePart = call.body
        part = Part(body.backup_id, body.number, body.total, body.at, body.devices)
        progress = await self._backups.restore(call.caller, part)
        return RestoreProgress(progress.done, progress.skipped)


def _limit(query: RequestsQuery | DevicesQuery) -> int:
    if query.limit is not UNSET:
        return query.limit
    return sys.maxsize if query.after is UNSET and not query.q else PART_LIMIT
