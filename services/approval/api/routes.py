"""Routes of the operators' HTTP API, the operators' page and the public pages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from services.approval.api.backup_routes import BackupViews
from services.approval.api.calls import (
    IDENTITY,
    STILL_VALID,
    Operations,
    add_headers,
    call_handler,
    read_call,
    serve_calls,
)
from services.approval.api.import_routes import ImportOperations
from services.approval.api.openapi import describe
from services.approval.api.operations import OPERATIONS
from services.approval.api.operator_routes import OperatorRoutes
from services.approval.api.public import METRICS, PAGES
from services.approval.api.rule_routes import RuleRoutes
from services.approval.api.session_routes import SessionViews
from services.approval.api.setup_code_routes import SetupCodeRoutes
from services.approval.api.sse import resumed_from
from services.approval.api.static import json_view, page_files, page_view
from services.approval.api.webhook_routes import WebhookRoutes
from shared.server.http_protocol import leave_schedule
from shared.settings.environment import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.approval.access.authenticator import Authenticator
    from services.approval.api.calls import Handler
    from services.approval.api.operations import Operation
    from services.approval.api.session_routes import View
    from services.approval.api.sse import Events
    from services.approval.backup.service import BackupService
    from services.approval.imports.service import ImportService
    from services.approval.metrics import Metrics
    from services.approval.notifications.service import WebhookService
    from services.approval.operators.operators import OperatorService
    from services.approval.registry.registry import Registry
    from services.approval.rules.rules import RuleService
    from services.approval.settings import Settings
    from services.approval.setup_codes.service import SetupCodeService
    from shared.observability.ops import OpsViews

_ABOUT: Final = (
    "This is Latchkey's approval service: it decides which devices are admitted.\n"
    "Operators manage devices at /setup.\n"
    "Its API is described at /openapi.json and requires `Authorization: Bearer` with the value\n"
    "of APPROVAL_ADMIN_TOKEN or an operator's token.\n"
)


def add_routes(
    app: web.Application,
    *,
    registry: Registry,
    backups: BackupService,
    operators: OperatorService,
    webhooks: WebhookService,
    imports: ImportService,
    rules: RuleService,
    setup_codes: SetupCodeService,
    events: Events,
    settings: Settings,
    ops: OpsViews,
    metrics: Metrics,
    authenticator: Authenticator,
) -> None:
    """Add the API (operators only), the operators' page and the public pages."""
    pages = PAGES if settings.common.ops_port is not None else (*PAGES, METRICS)
    views: Mapping[str, Handler] = {
        "about": _about,
        "openapi": json_view(msgspec.json.encode(describe(OPERATIONS, pages))),
        "livez": ops.livez,
        "readyz": ops.public_readyz,
        "metrics": ops.metrics,
    }
    public_views = [(page.path, page.id, views[page.id]) for page in pages]
    public_views += [(file.path, "page", page_view(file)) for file in page_files()]
    calls = {
        **Operations(registry, backups).by_id,
        **OperatorRoutes(operators, authenticator.now_ms).by_id,
        **WebhookRoutes(webhooks).by_id,
        **ImportOperations(imports).by_id,
        **RuleRoutes(rules, authenticator.now_ms).by_id,
        **SetupCodeRoutes(setup_codes, authenticator.now_ms).by_id,
    }
    others: dict[str, Callable[[Operation], Handler]] = {
        "followEvents": partial(_streaming, events),
        "readBackup": partial(_of_lines, BackupViews(backups)),
    }
    for name, of_session in SessionViews(authenticator, settings.gateway_public_url).by_id.items():
        others[name] = partial(_of_session, of_session)
    operations: dict[tuple[str, str], Operation] = {}
    public: dict[str, str] = {}
    prefix = path_of(settings.common.approval_public_url)
    for base in dict.fromkeys(("", prefix)):  # a proxy may strip the prefix or keep it
        for path, name, view in public_views:
            app.router.add_get(base + path, view)
            public.setdefault(base + path, name)
        for operation in OPERATIONS:
            path, other = base + operation.path, others.get(operation.id)
            handler = other(operation) if other else call_handler(operation, calls[operation.id])
            if operation.method == "GET":
                app.router.add_get(path, handler)
            else:
                app.router.add_route(operation.method, path, handler)
            operations.setdefault((operation.method, path), operation)
    app.on_response_prepare.append(add_headers)

    async def end_streams(_app: web.Application) -> None:
        events.close()

    app.on_shutdown.append(end_streams)
    app.middlewares.append(serve_calls(metrics, authenticator, operations, public))


def _of_lines(views: BackupViews, operation: Operation) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        call = await read_call(request, operation)
        return await views.serve(request, call.caller, request[STILL_VALID])

    return handle


def _of_session(view: View, operation: Operation) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return await view(request, operation, request[IDENTITY])

    return handle


def _streaming(events: Events, operation: Operation) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        call = await read_call(request, operation)
        after = resumed_from(request, call.query)
        leave_schedule(request)
        return await events.serve(request, call.caller, after, request[STILL_VALID])

    return handle


async def _about(_request: web.Request) -> web.Response:
    return web.Response(text=_ABOUT)
