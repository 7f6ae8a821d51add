"""Routes of the operators' HTTP API, with authentication, metrics and logging."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from aiohttp import web

from services.approval import log_events
from services.approval.access.authenticator import Identity
from services.approval.api.backup_routes import BackupViews
from services.approval.api.handlers import Calls
from services.approval.api.openapi import describe
from services.approval.api.operations import OPERATIONS
from services.approval.api.parsing import read_call, read_ids, resumed_from
from services.approval.api.public import METRICS, PAGES
from services.approval.api.session_routes import SessionViews
from services.approval.api.static import page_files, page_view
from services.approval.domain.errors import StoreUnavailable
from services.approval.problems import IDS, Ids, problem_response
from shared.server.http_protocol import note_request
from shared.server.strict_http import SERVER_NAME
from shared.settings.environment import path_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Middleware

    from services.approval.access.authenticator import Authenticator
    from services.approval.api.operations import Operation
    from services.approval.api.parsing import Call
    from services.approval.api.session_routes import View
    from services.approval.api.sse import Events
    from services.approval.backup.service import BackupService
    from services.approval.metrics import Metrics
    from services.approval.registry.registry import Registry
    from services.approval.settings import Settings
    from shared.observability.ops import OpsViews

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": SERVER_NAME,
}
"""Headers of every response; `Server` does not reveal the software."""
OPENED: Final = web.RequestKey("opened", Identity)
_TOKEN_ONLY: Final = frozenset((one.method, one.path) for one in OPERATIONS if one.token_only)

_ABOUT: Final = (
    "This is Latchkey's approval service: it decides which devices are admitted.\n"
    "Operators manage devices at /setup.\n"
    "Its API is described at /openapi.json and requires `Authorization: Bearer` with the value\n"
    "of APPROVAL_ADMIN_TOKEN.\n"
)
_encode: Final = msgspec.json.Encoder().encode


def add_routes(
    app: web.Application,
    *,
    registry: Registry,
    backups: BackupService,
    events: Events,
    settings: Settings,
    ops: OpsViews,
    metrics: Metrics,
    authenticator: Authenticator,
) -> None:
    """Add the API (operators only), the operators' page and the public pages."""
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
    files = page_files()
    routes = [("GET", page.path, views[page.id]) for page in pages]
    routes += [("GET", file.path, page_view(file)) for file in files]
    calls = Calls(registry, backups).by_id
    backup_views = BackupViews(backups)
    sessions = SessionViews(authenticator, settings.gateway_public_url).by_id
    for operation in OPERATIONS:
        if operation.streams:
            handler = _streaming(operation, events, authenticator)
        elif operation.lines:
            handler = _of_lines(operation, backup_views)
        elif operation.id in sessions:
            handler = _of_session(operation, sessions[operation.id])
        else:
            handler = _handler(operation, calls[operation.id])
        routes.append((operation.method, operation.path, handler))
    prefix = path_of(settings.common.approval_public_url)
    declared: dict[str, str] = {}
    for base in dict.fromkeys(("", prefix)):  # a proxy may strip the prefix or keep it
        for method, path, handler in routes:
            declared.setdefault(base + path, path)
            if method == "GET":
                app.router.add_get(base + path, handler)
            else:
                app.router.add_route(method, base + path, handler)
    app.on_response_prepare.append(_harden)

    async def end_streams(_app: web.Application) -> None:
        events.close()

    app.on_shutdown.append(end_streams)
    names = {page.path: page.id for page in pages} | {file.path: "page" for file in files}
    app.middlewares.append(_serving(metrics, authenticator, names, declared))


def _handler(
    operation: Operation, carry_out: Callable[[Call], Awaitable[msgspec.Struct]]
) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        result = await carry_out(await read_call(request, operation))
        return web.Response(body=_encode(result), content_type="application/json")

    return handle


def _of_lines(operation: Operation, views: BackupViews) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        await read_call(request, operation)
        return await views.serve(request)

    return handle


def _of_session(operation: Operation, view: View) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return await view(request, operation, request[OPENED])

    return handle


def _streaming(operation: Operation, events: Events, authenticator: Authenticator) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        call = await read_call(request, operation)
        after = resumed_from(request, call.query)
        return await events.serve(
            request, after, partial(authenticator.is_still_valid, request[OPENED])
        )

    return handle


async def _about(_request: web.Request) -> web.Response:
    return web.Response(text=_ABOUT)


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    caching = response.headers.get("Cache-Control", HEADERS["Cache-Control"])
    response.headers.update({**HEADERS, "Cache-Control": caching})


def _serving(
    metrics: Metrics,
    authenticator: Authenticator,
    public: Mapping[str, str],
    declared: Mapping[str, str],
) -> Middleware:
    """Serve every call: authenticate, carry it out, answer errors, count, time and log it.

    Every route that is not public requires an operator, before any other processing. Calls that
    change something are logged.
    """
    log = structlog.get_logger("approval")
    by_route = {(operation.method, operation.path): operation for operation in OPERATIONS}

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        note_request(request)
        path = _path(request, declared)
        method = "GET" if request.method == "HEAD" else request.method
        operation = by_route.get((method, path))
        name = operation.id if operation else public.get(path, "other")
        began = time.perf_counter()
        response: web.StreamResponse
        try:
            if path not in public and request.match_info.http_exception is None:
                by_session = (request.method, path) not in _TOKEN_ONLY
                try:
                    request[OPENED] = await authenticator.authenticate(
                        request, by_session=by_session
                    )
                except StoreUnavailable:  # the caller is unauthenticated: read nothing but the ids
                    read_ids(request)
                    raise
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 (last resort; a bug is logged)
            response = problem_response(request, error)
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
                **{key: value for key, value in msgspec.structs.asdict(ids).items() if value},
            )
        return response

    return serve


def _path(request: web.Request, declared: Mapping[str, str]) -> str:
    """Return the matched route's path as declared; empty if no route matched."""
    resource = request.match_info.route.resource
    return declared.get(resource.canonical, "") if resource else ""
