"""An approval replica assembled as `services.approval.app` does, on simulated connections."""

from __future__ import annotations

import contextlib
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

from services.approval.domain.pairing import IdFactory
from services.approval.domain.tokens import TokenKeys
from services.approval.registry.expiry import Expiry
from services.approval.requests.admission import Admissions
from services.approval.requests.admission_commit import PendingLimits
from services.approval.requests.dispatcher import RequestDispatcher
from services.approval.requests.methods import Methods
from services.approval.requests.secrets import SecretChecks
from services.approval.requests.write_limiter import WriteLimiter
from services.approval.setup_codes.service import SetupCodeService
from services.approval.storage.changes.transaction_log import TransactionLog
from services.approval.storage.store import Store
from shared.bus.channels import EVENTS, ask_channel
from shared.bus.errors import Unavailable
from shared.rpc.messages import encode
from shared.rpc.responder import Responder
from shared.secret_digests import SecretDigests
from shared.settings.environment import Secrets
from tests.simulation.engine.network import Line
from tests.simulation.redis.client import RedisClient
from tests.simulation.services.gateway import BUS_SECRET
from tests.simulation.services.metrics import NoMetrics
from tests.simulation.services.seal import SimulatedEnvelope

if TYPE_CHECKING:
    from shared.bus.envelope import Opened
    from shared.rpc.messages import Event
    from tests.simulation.engine.world import Process, World
    from tests.simulation.mutants.rules import Variant
    from tests.simulation.redis.server import Server

TTL_MS: Final = 6_000
"""Short enough that requests expire within a run."""
_METRICS: Final[Any] = NoMetrics()
_KEYS: Final = TokenKeys(Secrets(("the token secret of the simulation",)))
_LIMITS: Final = PendingLimits(ttl_ms=TTL_MS, total=100, per_address=50)


class ApprovalProcess:
    """One life of an approval replica; a restart creates another."""

    def __init__(self, world: World, name: str, server: Server, variant: Variant) -> None:
        self.process: Process = world.process(name)
        kinds = ("publishing", "subscription", "store")
        self.lines = [Line(world, kind, server) for kind in kinds]
        process = self.process
        boot_id = process.boot_id
        self._drawn = 0
        self._envelope = SimulatedEnvelope((BUS_SECRET,), boot_id)
        self.bus = variant.bus(
            process,
            self.lines[0],
            self.lines[1],
            self._envelope,
            on_subscribed=lambda: world.story.tell(name, "is subscribed"),
        )
        self.bus.subscribe(EVENTS, self._on_event)
        self.bus.subscribe(ask_channel(boot_id), self._on_questions)
        self.store = Store(cast("Any", RedisClient(process, self.lines[2])), process.clock)
        ledger = TransactionLog(self.store, self._tell)
        draws = IdFactory(request_id=self._draw, token_id=self._draw, token_generation=self._draw)
        self.registry = variant.registry(self.store, ledger, draws, ttl_ms=TTL_MS)
        self.registry.count = process.count
        limiter = WriteLimiter(_METRICS)
        digests = SecretDigests((BUS_SECRET,))
        admissions = Admissions(
            store=self.store,
            ledger=ledger,
            keys=_KEYS,
            digests=digests,
            draws=draws,
            limits=_LIMITS,
            metrics=_METRICS,
            limiter=limiter,
        )
        setup_codes = SetupCodeService(
            self.store, ledger, self.registry, _KEYS, digests, gateway_url="", access="full"
        )
        methods = Methods(self.registry, self.store, _KEYS, _METRICS, setup_codes)
        questions = RequestDispatcher(
            admissions=admissions,
            secrets=SecretChecks(store=self.store, keys=_KEYS, digests=digests, metrics=_METRICS),
            methods=methods,
            store=self.store,
            metrics=_METRICS,
            limiter=limiter,
        )
        self._responder = Responder(
            self.bus.send, self._envelope, questions.dispatch, loop=process.loop
        )
        self.announcer = variant.announcer(
            boot_id=boot_id,
            store=self.store,
            tell=self._tell,
            metrics=_METRICS,
            clock=process.clock,
        )
        self._expiry = Expiry(
            self.store,
            ledger,
            ttl_ms=TTL_MS,
            ready=lambda: self.announcer.fresh,
            clock=process.clock,
            chance=Random(boot_id),
        )
        process.receive(self._start)

    @property
    def name(self) -> str:
        """Its name in the story."""
        return self.process.name

    def _start(self) -> None:
        self.bus.start()
        self.process.start(self.announcer.run(), "announcer")
        self.process.start(self.announcer.watch(), "watch")
        self.process.start(self._expiry.run(), "expiry")

    def _draw(self) -> str:
        self._drawn += 1
        return f"{self.process.boot_id}/{self._drawn}"

    def _on_event(self, message: Opened) -> None:
        if message.sender == self.process.boot_id:
            self.announcer.on_own_event()

    def _on_questions(self, message: Opened) -> None:
        if self.announcer.fresh:
            self._responder.deliver(message)
        else:
            self.process.count("R3")

    def _tell(self, event: Event) -> None:
        with contextlib.suppress(Unavailable):
            self.bus.send(EVENTS, self._envelope.seal(EVENTS, encode(event)), lambda _count: None)
