"""An approval replica in this process: registry, dispatcher and API over a real Redis, no bus."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from services.approval.access.authenticator import Authenticator
from services.approval.api.routes import add_routes
from services.approval.api.sse import Events
from services.approval.backup.service import BackupService
from services.approval.domain.authorization import OPERATOR
from services.approval.domain.pairing import IdFactory
from services.approval.domain.tokens import (
    TokenKeys,
    draw_request_id,
    draw_token_generation,
    draw_token_id,
)
from services.approval.imports.service import ImportService
from services.approval.metrics import Metrics
from services.approval.notifications.service import WebhookService
from services.approval.operators.operators import OperatorService
from services.approval.registry.expiry import Expiry
from services.approval.registry.registry import Registry
from services.approval.requests.admission import Admissions
from services.approval.requests.admission_commit import PendingLimits
from services.approval.requests.dispatcher import RequestDispatcher
from services.approval.requests.methods import Methods
from services.approval.requests.secrets import SecretChecks
from services.approval.requests.write_limiter import WriteLimiter
from services.approval.rules.rulebook import RuleBook
from services.approval.rules.rules import RuleService
from services.approval.settings import Settings, read_settings
from services.approval.setup_codes.service import SetupCodeService
from services.approval.storage.changes.transaction_log import TransactionLog
from services.approval.storage.store import Store
from services.approval.storage.webhooks import WebhookStore
from shared.observability.health import Health, Readiness
from shared.observability.ops import OpsViews
from shared.redis.access import make_client
from shared.rpc.messages import Admitted, Answer, Changed, NeedsPairing, decode_answer
from shared.secret_digests import SecretDigests
from shared.server.clients import Clients
from tests.support.approval.callers import device_token
from tests.support.approval.devices import READ, Device
from tests.support.callbacks import result_of
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from services.approval.domain.authorization import Caller
    from shared.clock import Clock
    from shared.rpc.messages import AuthorizeDevice

ADMIN_TOKEN: Final = "the-admin-token-of-these-tests-0123456789"
TOKEN_SECRET: Final = "the-token-secret-of-these-tests-0123456789"
TTL_SECONDS: Final = 3600


def _settings(redis_url: str, **more: str) -> Settings:
    return read_settings(
        {
            "REDIS_URL": redis_url,
            "BUS_SECRET": secrets.token_hex(32),
            "TOKEN_SECRET": TOKEN_SECRET,
            "APPROVAL_ADMIN_TOKEN": ADMIN_TOKEN,
            "PENDING_TTL_SECONDS": str(TTL_SECONDS),
            **more,
        }
    )


class _NoDelay:
    milliseconds = 0.0


class Replica:
    """One approval replica; several over one Redis share all data.

    `published` lists published events, `health` is its readiness; `redis` is the test's own client.
    """

    def __init__(
        self,
        redis: Redis,
        looking: Redis,
        *,
        clock: Clock,
        settings: Settings,
        registry: Registry | None = None,
        events: dict[str, Any] | None = None,
    ) -> None:
        self.redis: Final[Any] = looking  # its types cover bytes and text, ours are bytes
        self.published: Final[list[Changed]] = []
        self.health = Health(ok=True, reason="a test says so")
        self.metrics: Final = Metrics()
        self.metrics.watch_tasks()
        self.store: Final = Store(redis, clock)
        self.keys: Final = TokenKeys(settings.token_secrets)
        self.ledger: Final = TransactionLog(self.store, self.published.append)
        draws = IdFactory(
            request_id=draw_request_id,
            token_id=draw_token_id,
            token_generation=draw_token_generation,
        )
        ttl_ms = int(settings.pending_ttl_seconds * 1000)
        self.registry: Final = registry or Registry(self.store, self.ledger, draws, ttl_ms=ttl_ms)
        self.expiry: Final = Expiry(
            self.store,
            self.ledger,
            ttl_ms=ttl_ms,
            ready=lambda: self.health.ok,
            clock=clock,
            chance=random.Random(),
        )
        self.limiter: Final = WriteLimiter(self.metrics)
        self.rulebook: Final = RuleBook(self.store)
        digests = SecretDigests(settings.common.bus_secrets)
        self.admissions: Final = Admissions(
            store=self.store,
            ledger=self.ledger,
            keys=self.keys,
            digests=digests,
            draws=draws,
            limits=PendingLimits(
                ttl_ms, settings.pending_limit, settings.pending_limit_per_address
            ),
            metrics=self.metrics,
            limiter=self.limiter,
            rules=self.rulebook,
        )
        self.setup_codes: Final = SetupCodeService(
            self.store,
            self.ledger,
            self.registry,
            self.keys,
            digests,
            gateway_url=settings.gateway_public_url,
            access=settings.setup_code_access,
        )
        self.methods: Final = Methods(
            self.registry, self.store, self.keys, self.metrics, self.setup_codes
        )
        self.dispatcher: Final = RequestDispatcher(
            admissions=self.admissions,
            secrets=SecretChecks(
                store=self.store, keys=self.keys, digests=digests, metrics=self.metrics
            ),
            methods=self.methods,
            store=self.store,
            metrics=self.metrics,
            limiter=self.limiter,
        )
        self.backups: Final = BackupService(self.store, self.ledger)
        self.imports: Final = ImportService(self.store, self.ledger, self.keys, draws)
        self.operators: Final = OperatorService(self.store, self.ledger)
        self.queues: Final = WebhookStore(redis, secrets.token_hex(8))
        self.webhooks: Final = WebhookService(settings.webhooks, self.queues, self.store.now_ms)
        self.rules: Final = RuleService(self.store, self.ledger)
        self.events: Final = Events(self.registry, self.metrics, **(events or {}))
        ops = OpsViews(
            readiness=Readiness("replica", {"store": lambda: self.health}),
            registry=self.metrics.registry,
            clock=clock,
            loop_delay=_NoDelay(),
            own_port=settings.common.ops_port is not None,
        )
        self.app: Final = web.Application()
        add_routes(
            self.app,
            setup_codes=self.setup_codes,
            registry=self.registry,
            backups=self.backups,
            operators=self.operators,
            webhooks=self.webhooks,
            imports=self.imports,
            rules=self.rules,
            events=self.events,
            settings=settings,
            ops=ops,
            metrics=self.metrics,
            authenticator=Authenticator(
                self.store,
                settings,
                Clients(
                    settings.common.trusted_proxies,
                    service="approval",
                    on_unreadable=self.metrics.unreadable_proxies.inc,
                ),
                self.metrics,
            ),
        )

    async def answer(self, question: AuthorizeDevice) -> Answer | None:
        """Answer one request; None if the outcome is unknown."""
        (reply,) = await result_of(self.admissions.handle_batch, question)
        if isinstance(reply, asyncio.Future):
            reply = await reply
        return decode_answer(reply) if isinstance(reply, bytes) else None

    async def request(self, question: AuthorizeDevice) -> NeedsPairing:
        """Send a request that needs an operator's decision."""
        answer = await self.answer(question)
        assert isinstance(answer, NeedsPairing), answer
        return answer

    async def pair(self, device: Device, *scopes: str, **asked: Any) -> Admitted:
        """Send a device's request, approve it, and admit the device; `asked` as for Device.asks."""
        wanted = scopes or READ
        asked_for = await self.request(device.asks(wanted, **asked))
        await self.registry.approve(OPERATOR, asked_for.request_id)
        return await self.admit(device.asks(wanted, **asked))

    async def paired(self, *scopes: str) -> Device:
        """Return a device admitted with these scopes, by default to read."""
        device = Device.new()
        await self.pair(device, *scopes)
        return device

    async def socket(self, device: Device, *scopes: str) -> Caller:
        """Return the caller for a socket that was just admitted with its device token.

        It holds the given scopes that were approved for the device.
        """
        _head, (held,) = await self.store.load([device.device_id])
        pairing = held.record.pairing if held.record else None
        token_generation = pairing.tokens["operator"].token_generation if pairing else ""
        return replace(device_token(device, *scopes), token_generation=token_generation)

    async def admit(self, question: AuthorizeDevice) -> Admitted:
        """Send a request that is already approved."""
        answer = await self.answer(question)
        assert isinstance(answer, Admitted), answer
        return answer


@contextlib.asynccontextmanager
async def replica(
    redis_url: str,
    clock: Clock | None = None,
    *,
    admin_url: str = "",
    registry: Registry | None = None,
    events: dict[str, Any] | None = None,
    **settings: str,
) -> AsyncIterator[Replica]:
    """Return a replica with its own clock; settings are named as in the environment.

    `events` overrides the limits of Events. The test itself reads Redis as the user of
    `admin_url`, if given, because approval's user has only the rights it needs.
    """
    client = make_client(redis_url, max_connections=8, timeout_seconds=2.0)
    looking = make_client(admin_url or redis_url, max_connections=8, timeout_seconds=2.0)
    try:
        values = _settings(redis_url, **settings)
        yield Replica(
            client,
            looking,
            clock=clock or FakeClock(),
            settings=values,
            registry=registry,
            events=events,
        )
    finally:
        await client.aclose()
        await looking.aclose()


async def everything(admin_url: str) -> dict[str, bytes]:
    """Return all data in Redis, by key, as searchable bytes."""
    client: Any = make_client(admin_url, max_connections=1, timeout_seconds=5.0)
    read = {
        b"string": client.get,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
        b"hash": client.hgetall,
    }
    try:
        found = {}
        for key in await client.keys("*"):
            kind = await client.type(key)
            value = await read[kind](key)
            found[key.decode()] = value if kind == b"string" else repr(value).encode()
        return found
    finally:
        await client.aclose()
