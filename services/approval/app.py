"""Composition root of the approval service."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiohttp import web

from services.approval import log_events
from services.approval.access.authenticator import Authenticator
from services.approval.api.routes import add_routes
from services.approval.api.sse import Events
from services.approval.backup.service import BackupService
from services.approval.domain.pairing import IdFactory
from services.approval.domain.tokens import (
    TokenKeys,
    draw_request_id,
    draw_token_generation,
    draw_token_id,
)
from services.approval.imports.service import ImportService
from services.approval.metrics import Metrics
from services.approval.notifications.notifier import Notifier
from services.approval.notifications.service import WebhookService
from services.approval.operators.operators import OperatorService
from services.approval.problems import busy_response
from services.approval.registry.expiry import Expiry
from services.approval.registry.integrity import Integrity
from services.approval.registry.registry import Registry
from services.approval.requests.admission import Admissions
from services.approval.requests.admission_commit import PendingLimits
from services.approval.requests.dispatcher import RequestDispatcher
from services.approval.requests.liveness import LivenessPublisher
from services.approval.requests.methods import Methods
from services.approval.requests.secrets import SecretChecks
from services.approval.requests.write_limiter import SLOTS_TOTAL, WriteLimiter
from services.approval.rules.rulebook import RuleBook
from services.approval.rules.rules import RULE_CHANGES, RuleService
from services.approval.setup_codes.service import SetupCodeService
from services.approval.storage.changes.transaction_log import TransactionLog
from services.approval.storage.store import Store
from services.approval.storage.webhooks import WebhookStore
from shared.bus.channels import EVENTS, ask_channel
from shared.bus.envelope import Envelope
from shared.bus.errors import Rejected, Unavailable
from shared.bus.redis_bus import RedisBus
from shared.observability.health import Readiness
from shared.observability.metrics import BusCounts
from shared.observability.ops import OpsViews
from shared.redis.access import RedisAccess
from shared.redis.connection import Reads
from shared.redis.opening import open_connections
from shared.rpc.messages import Changed, decode_event, encode
from shared.rpc.responder import Responder
from shared.secret_digests import SecretDigests
from shared.server.clients import Clients
from shared.server.plain_requests import PlainRequests
from shared.settings.environment import path_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from services.approval.settings import Settings
    from shared.bus.envelope import Opened
    from shared.clock import Clock
    from shared.rpc.messages import Event

STORE_CONNECTIONS_LIMIT = SLOTS_TOTAL + 2
"""Connections to Redis for the writes of requests, and two for HTTP and expiry."""
LEASE_CONNECTIONS_LIMIT = 4
"""Connections reserved for heartbeats and liveness."""
DELIVERY_CONNECTIONS_LIMIT = 4
"""Connections of notifications, so that they delay no other command; none without targets."""
STORE_TIMEOUT_SECONDS = 2.0
_DRAWS = IdFactory(
    request_id=draw_request_id, token_id=draw_token_id, token_generation=draw_token_generation
)
ANSWER_SECONDS = 2.0
"""Grace period for requests in progress at shutdown; gateways do not wait longer."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The assembled approval service: its two applications and what is needed to run them."""

    app: web.Application
    ops_app: web.Application
    metrics: Metrics
    plain_requests: PlainRequests
    leave: Callable[[], Awaitable[None]]


def build_approval(settings: Settings, *, boot_id: str, clock: Clock) -> Approval:
    """Assemble the service; nothing runs before the application starts."""
    common, metrics = settings.common, _metrics()

    counts = BusCounts(metrics.bus)
    redis, client, lease, reads = _clients(common.redis_url, clock)

    def on_event(message: Opened) -> None:
        if message.sender == boot_id:
            liveness.on_own_event()
        _wake(_kind_of_change(message.body), events, rulebook, notifier)

    def on_questions(message: Opened) -> None:
        if liveness.fresh:
            responder.deliver(message)

    def on_connected() -> None:
        liveness.announce_now()

    store = Store(client, clock, reads.read, lease, always_replicated=redis.always_replicated)
    envelope = Envelope(tuple(common.bus_secrets), boot_id)
    bus = RedisBus(
        redis,
        envelope,
        on_subscribed=on_connected,
        on_publishing=on_connected,
        on_rejected=counts.rejected,
        clock=clock,
        log=structlog.get_logger("bus"),
        count=counts,
    )

    bus.subscribe(EVENTS, on_event)
    bus.subscribe(ask_channel(boot_id), on_questions)
    tell = _publisher(bus, envelope, metrics)
    store.addresses.tell = tell
    ledger = TransactionLog(store, tell)
    registry = Registry(store, ledger, _DRAWS, ttl_ms=settings.pending_ttl_ms)
    events = Events(registry, metrics)
    rulebook = RuleBook(store)
    setup_codes = SetupCodeService(
        store,
        ledger,
        registry,
        TokenKeys(settings.token_secrets),
        SecretDigests(common.bus_secrets),
        gateway_url=settings.gateway_public_url,
        access=settings.setup_code_access,
    )
    questions = _questions(
        settings, store, ledger, registry, rulebook, metrics=metrics, setup_codes=setup_codes
    )
    responder = Responder(bus.send, envelope, questions.dispatch, count=counts)
    liveness = LivenessPublisher(
        boot_id=boot_id, store=store, tell=tell, metrics=metrics, clock=clock
    )

    expiry = Expiry(
        store,
        ledger,
        ttl_ms=settings.pending_ttl_ms,
        ready=lambda: liveness.fresh,
        clock=clock,
        chance=random.Random(),  # noqa: S311 (spread)
    )

    integrity = Integrity(
        store, ledger, metrics, ttl_ms=settings.pending_ttl_ms, ready=lambda: liveness.fresh
    )

    notifier, webhooks = _notifications(
        settings, store, redis, boot_id=boot_id, metrics=metrics, clock=clock
    )

    clients = Clients(
        common.trusted_proxies, service="approval", on_unreadable=metrics.unreadable_proxies.inc
    )
    ops = OpsViews(
        readiness=Readiness(
            boot_id,
            {
                "store": liveness.health,
                "records": integrity.health,
                "bus": bus.health,
                "proxies": clients.health,
            },
        ),
        registry=metrics.registry,
        clock=clock,
        loop_delay=liveness,
        own_port=common.ops_port is not None,
    )

    async def run(_app: web.Application) -> AsyncIterator[None]:
        await bus.start()
        announcing = [
            asyncio.create_task(one)
            for one in (
                liveness.run(),
                liveness.watch(),
                integrity.run(),
                rulebook.run(),
                notifier.run(),
                open_connections(lease, LEASE_CONNECTIONS_LIMIT),
            )
        ]
        expiring = asyncio.create_task(expiry.run(), name="expiry")
        yield
        await liveness.stop(*announcing)
        await asyncio.gather(expiry.stop(expiring), responder.stop(ANSWER_SECONDS))
        await bus.stop()
        await reads.close()
        await client.aclose()
        await lease.aclose()

    app = web.Application()
    app.cleanup_ctx.append(run)
    add_routes(
        app,
        setup_codes=setup_codes,
        registry=registry,
        backups=BackupService(store, ledger),
        operators=OperatorService(store, ledger),
        webhooks=webhooks,
        imports=ImportService(store, ledger, TokenKeys(settings.token_secrets), _DRAWS),
        rules=RuleService(store, ledger),
        events=events,
        settings=settings,
        ops=ops,
        metrics=metrics,
        authenticator=Authenticator(store, settings, clients, metrics),
    )
    plain_requests = PlainRequests(
        clock,
        limits=common.plain_limits,
        count=metrics.plain_http.dropped,
        refusal=busy_response,
        prefix=path_of(common.approval_public_url),
    )
    metrics.plain_http.watch(plain_requests)
    _advise(settings)
    return Approval(app, ops.ops_app(), metrics, plain_requests, liveness.leave)


def _publisher(bus: RedisBus, envelope: Envelope, metrics: Metrics) -> Callable[[Event], None]:
    """Return a function that logs and counts an event, and publishes it without waiting."""
    log = structlog.get_logger("approval").bind()

    def tell(event: Event) -> None:
        if isinstance(event, Changed):
            metrics.changes.labels(event.kind).inc()
            metrics.head.set(event.change.number)
            log.info(
                log_events.CHANGED.name,
                kind=event.kind,
                device=event.device_id,
                change=event.change.number,
                request_id=event.request_id,
            )
        with contextlib.suppress(Unavailable, Rejected):
            bus.send(EVENTS, envelope.seal(EVENTS, encode(event)), lambda _count: None)

    return tell


def _advise(settings: Settings) -> None:
    """Log recommendations for settings."""
    for advice in settings.warnings:
        structlog.get_logger("approval").warning(log_events.SETTING.name, advice=advice)


def _metrics() -> Metrics:
    metrics = Metrics()
    metrics.watch_tasks()
    return metrics


def _questions(
    settings: Settings,
    store: Store,
    ledger: TransactionLog,
    registry: Registry,
    rules: RuleBook,
    *,
    metrics: Metrics,
    setup_codes: SetupCodeService,
) -> RequestDispatcher:
    """Assemble the dispatcher for requests from gateways."""
    keys = TokenKeys(settings.token_secrets)
    limiter = WriteLimiter(metrics)
    digests = SecretDigests(settings.common.bus_secrets)
    admissions = Admissions(
        store=store,
        ledger=ledger,
        keys=keys,
        digests=digests,
        draws=_DRAWS,
        limits=PendingLimits(
            ttl_ms=settings.pending_ttl_ms,
            total=settings.pending_limit,
            per_address=settings.pending_limit_per_address,
        ),
        metrics=metrics,
        limiter=limiter,
        rules=rules,
    )
    methods = Methods(registry, store, keys, metrics, setup_codes)
    return RequestDispatcher(
        admissions=admissions,
        secrets=SecretChecks(store=store, keys=keys, digests=digests, metrics=metrics),
        methods=methods,
        store=store,
        metrics=metrics,
        limiter=limiter,
    )


def _notifications(
    settings: Settings,
    store: Store,
    redis: RedisAccess,
    *,
    boot_id: str,
    metrics: Metrics,
    clock: Clock,
) -> tuple[Notifier, WebhookService]:
    """Assemble what delivers notifications, and what the API shows of it.

    Both have connections of their own. Without targets, they open none.
    """
    common = settings.common
    client = redis.client(
        max_connections=DELIVERY_CONNECTIONS_LIMIT, timeout_seconds=STORE_TIMEOUT_SECONDS
    )
    queues = WebhookStore(client, boot_id)
    notifier = Notifier(
        settings.webhooks,
        queues,
        public_url=common.approval_public_url,
        metrics=metrics,
        clock=clock,
        now_ms=store.now_ms,
        chance=random.Random(),  # noqa: S311 (spread)
        close=client.aclose,
    )
    return notifier, WebhookService(settings.webhooks, queues, store.now_ms)


def _clients(redis_url: str, clock: Clock) -> tuple[RedisAccess, Redis, Redis, Reads]:
    """Return the way to Redis, a client for all commands, one for leases, and a fast reader."""
    redis = RedisAccess(redis_url, clock=clock)
    client, lease = (
        redis.client(max_connections=limit, timeout_seconds=STORE_TIMEOUT_SECONDS)
        for limit in (STORE_CONNECTIONS_LIMIT, LEASE_CONNECTIONS_LIMIT)
    )
    reads = Reads(client, STORE_TIMEOUT_SECONDS)
    redis.reset.hold(reads.close)
    return redis, client, lease, reads


def _wake(kind: str, events: Events, rulebook: RuleBook, notifier: Notifier) -> None:
    """Wake whoever waits for a change of this kind."""
    if kind:
        events.wake()
        notifier.wake()
    if kind in RULE_CHANGES:
        rulebook.wake()


def _kind_of_change(message: bytes) -> str:
    """Return the kind of a change; empty for other events."""
    try:
        event = decode_event(message)
    except (msgspec.MsgspecError, RecursionError):
        return ""
    return event.kind if isinstance(event, Changed) else ""
