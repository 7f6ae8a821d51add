"""The operators' HTTP API: its routes, who may use them, and what each call does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from aiohttp import web
from msgspec import UNSET

from services.approval import log_events, objects
from services.approval.authority import OPERATOR
from services.approval.calls import Call, read_call, read_ids, resumed_from
from services.approval.errors import StoreUnavailable
from services.approval.openapi import describe
from services.approval.operations import OPERATIONS
from services.approval.problems import IDS, Ids, problems
from services.approval.public import METRICS, PAGES
from shared.addresses import client_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Middleware

    from services.approval.door import Door
    from services.approval.events import Events
    from services.approval.metrics import Metrics
    from services.approval.operations import AuditQuery, Operation
    from services.approval.registry import Registry
    from services.approval.settings import Settings
    from shared.observability.ops import OpsViews

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": "latchkey",
}
"""Headers of every response; who made the server is nobody's business."""

_ABOUT: Final = (
    "This is Latchkey's approval service: it decides which devices may come in.\n"
    "Its API is described at /openapi.json and wants `Authorization: Bearer` with the value of\n"
    "APPROVAL_ADMIN_TOKEN.\n"
)
_encode: Final = msgspec.json.Encoder().encode


class Calls:
    """Carries out the operations; whoever gets here has shown the admin token."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "listRequests": self._list_requests,
            "approveRequest": self._approve,
            "rejectRequest": self._reject,
            "listDevices": self._list_devices,
            "getDevice": self._device,
            "renameDevice": self._rename,
            "removeDevice": self._remove,
            "rotateToken": self._rotate,
            "revokeToken": self._revoke,
            "readAudit": self._audit,
            "listReplicas": self._replicas,
        }

    async def _list_requests(self, _call: Call) -> objects.PendingRequests:
        waiting = await self._registry.pending(OPERATOR)
        return objects.PendingRequests([objects.pending_object(one) for one in waiting])

    async def _approve(self, call: Call) -> objects.Approved:
        paired = await self._registry.approve(OPERATOR, call.ids.request_id)
        return objects.Approved(call.ids.request_id, objects.paired_object(paired))

    async def _reject(self, call: Call) -> objects.Rejected:
        device_id = await self._registry.reject(OPERATOR, call.ids.request_id)
        return objects.Rejected(call.ids.request_id, device_id)

    async def _list_devices(self, _call: Call) -> objects.PairedDevices:
        paired = await self._registry.devices(OPERATOR)
        return objects.PairedDevices([objects.paired_object(one) for one in paired])

    async def _device(self, call: Call) -> objects.PairedDevice:
        return objects.paired_object(await self._registry.device(OPERATOR, call.ids.device_id))

    async def _rename(self, call: Call) -> objects.Renamed:
        ids = call.ids
        label = await self._registry.rename(OPERATOR, ids.device_id, call.body.label)
        return objects.Renamed(ids.device_id, label)

    async def _remove(self, call: Call) -> objects.Removed:
        await self._registry.remove(OPERATOR, call.ids.device_id)
        return objects.Removed(call.ids.device_id)

    async def _rotate(self, call: Call) -> objects.Rotated:
        ids = call.ids
        scopes = None if call.body.scopes is UNSET else call.body.scopes
        token = await self._registry.rotate(OPERATOR, ids.device_id, ids.role, scopes)
        return objects.rotated_object(ids.device_id, ids.role, token)

    async def _revoke(self, call: Call) -> objects.Revoked:
        ids = call.ids
        token = await self._registry.revoke(OPERATOR, ids.device_id, ids.role)
        return objects.revoked_object(ids.device_id, ids.role, token)

    async def _replicas(self, _call: Call) -> objects.LiveReplicas:
        return objects.replicas_object(await self._registry.replicas(OPERATOR))

    async def _audit(self, call: Call) -> objects.AuditPage:
        query: AuditQuery = call.query
        entries = await self._registry.audit(OPERATOR, query.after, query.limit)
        return objects.AuditPage(entries, entries[-1].id if entries else query.after)


def add_routes(
    app: web.Application,
    *,
    registry: Registry,
    events: Events,
    settings: Settings,
    ops: OpsViews,
    metrics: Metrics,
    door: Door,
) -> None:
    """Add the API and what stands beside it. What is not public wants the admin token."""
    pages = PAGES if settings.common.ops_port is not None else (*PAGES, METRICS)
    description = _encode(describe(OPERATIONS, pages))

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=description, content_type="application/json")

    views: Mapping[str, Handler] = {
        "about": _about,
        "openapi": openapi,
        "livez": ops.livez,
        "readyz": ops.public_readyz,
        "metrics": ops.metrics,
    }
    for page in pages:
        app.router.add_get(page.path, views[page.id])
    calls = Calls(registry)
    for operation in OPERATIONS:
        handler = (
            _streaming(operation, events)
            if operation.streams
            else _handler(operation, calls.by_id[operation.id])
        )
        if operation.method == "GET":
            app.router.add_get(operation.path, handler)
        else:
            app.router.add_route(operation.method, operation.path, handler)
    app.on_response_prepare.append(_harden)

    async def end_streams(_app: web.Application) -> None:
        events.close()

    app.on_shutdown.append(end_streams)
    observing = _observing(metrics, settings, {page.path: page.id for page in pages})
    public = frozenset(page.path for page in pages)
    app.middlewares.extend((observing, problems, _authenticating(door, public)))


def _handler(
    operation: Operation, carry_out: Callable[[Call], Awaitable[msgspec.Struct]]
) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        result = await carry_out(await read_call(request, operation))
        return web.Response(body=_encode(result), content_type="application/json")

    return handle


def _streaming(operation: Operation, events: Events) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        call = await read_call(request, operation)
        return await events.serve(request, resumed_from(request, call.query))

    return handle


async def _about(_request: web.Request) -> web.Response:
    return web.Response(text=_ABOUT)


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _observing(metrics: Metrics, settings: Settings, pages: Mapping[str, str]) -> Middleware:
    """Count and time every call, and log those that change something."""
    log = structlog.get_logger("approval")
    trusted = settings.common.trusted_proxies
    by_route = {(operation.method, operation.path): operation for operation in OPERATIONS}

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = _path(request)
        method = "GET" if request.method == "HEAD" else request.method
        operation = by_route.get((method, path))
        name = operation.id if operation else pages.get(path, "other")
        began = time.perf_counter()
        response = await handler(request)
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
                address=client_address(request.remote or "", request.headers, trusted).address.text,
                milliseconds=round(took * 1000, 1),
                **{key: value for key, value in msgspec.structs.asdict(ids).items() if value},
            )
        return response

    return observe


def _authenticating(door: Door, public: frozenset[str]) -> Middleware:
    """Demand the admin token for every route that is not public, before anything else is done."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        nothing_there = request.match_info.http_exception is not None
        if not nothing_there and _path(request) not in public:
            try:
                await door.require_admin(request)
            except StoreUnavailable:  # only a right token depends on it
                read_ids(request)
                raise
        return await handler(request)

    return authenticate


def _path(request: web.Request) -> str:
    """Return the path of the matched route as it was declared; empty where none is served."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""
