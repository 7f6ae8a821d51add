"""Observes the services during an attack: health checks, sessions' calls, newcomers, memory.

Requests begin at fixed times, whether or not earlier ones were answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from shared.device.errors import DeviceClientError
from shared.device.handshake import Admitted, Credentials
from shared.device.identity import DeviceKey
from tools.drills.attacks.judge import CALL_SECONDS, HEALTH_SECONDS, NEWCOMER_SECONDS
from tools.drills.attacks.observed import Sample
from tools.drills.load.device import Connection
from tools.load.client.devices import PROFILE, LoadDevice
from tools.load.client.dialer import Dialer
from tools.load.client.target import read_target
from tools.load.client.verdicts import Kind
from tools.load.server.pairing import Caller, new_identities
from tools.support.processes.process_table import forget_peak_memory, peak_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from tools.drills.attacks.observed import Observed
    from tools.load.client.devices import Identity
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

HEALTH_PERIOD_SECONDS: Final = 0.1
HEALTH_DEADLINE_SECONDS: Final = 10.0
CALL_PERIOD_SECONDS: Final = 0.05
"""Sessions take turns."""
CALL_DEADLINE_SECONDS: Final = 20.0
NEWCOMER_PERIOD_SECONDS: Final = 0.2
AGAIN_SECONDS: Final = 1.0
"""A newcomer that was not served tries again after this, as the reference client does."""
LOOP_PERIOD_SECONDS: Final = 0.1
FAILED: Final = "not served in time"
UNANSWERED: Final = "unanswered at the end"


def _addresses(network: int, count: int) -> list[str]:
    return [f"127.{network}.{number // 250}.{1 + number % 250}" for number in range(count)]


HEALTH_ADDRESSES: Final = _addresses(70, 50)
SESSION_ADDRESSES: Final = _addresses(71, 200)
NEWCOMER_ADDRESSES: Final = _addresses(72, 2000)


@dataclass(slots=True)
class _Attempt:
    why: str = ""
    counts: bool = True
    attempts: int = 1


class Observer:
    """Observes one attack on the first gateway and the first approval of a stack."""

    def __init__(
        self,
        stack: Stack,
        holders: Sequence[Identity],
        visitors: Sequence[Identity],
        seen: Observed,
    ) -> None:
        self._stack = stack
        self._seen = seen
        self._holders = holders
        self._visitors = itertools.cycle(visitors)
        self._sessions: list[Connection] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: dict[str, int] = {}
        self._now = asyncio.get_running_loop().time

    async def enter(self) -> None:
        """Open the sessions, spread over the gateways, and begin to observe."""
        gateways = self._stack.gateways
        for number, identity in enumerate(self._holders):
            gateway = gateways[number % len(gateways)]
            session = Connection(
                gateway.ws_url,
                DeviceKey(identity.seed),
                PROFILE,
                Credentials(device_token=identity.device_token),
                SESSION_ADDRESSES[number % len(SESSION_ADDRESSES)],
            )
            self._sessions.append(session)
            outcome = await session.connect()
            assert isinstance(outcome, Admitted), outcome
        self._seen.sessions = len(self._sessions)
        self._idle = {service.name: forget_peak_memory(service.pid) for service in self._services}
        await self._observe()

    async def leave(self) -> None:
        """Stop observing, count lost sessions, and close the others."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in self._sessions:
            await session.close()

    def count(self) -> None:
        """Count the sessions that were lost so far, and the memory that was used at most."""
        self._seen.lost = sum(not session.is_open for session in self._sessions)
        for service in self._services:
            with contextlib.suppress(OSError, ValueError):
                used = peak_memory_bytes(service.pid) - self._idle[service.name]
                if service in self._stack.gateways:
                    self._seen.gateway_bytes = max(self._seen.gateway_bytes, used)
                else:
                    self._seen.approval_bytes = max(self._seen.approval_bytes, used)

    @property
    def _services(self) -> list[ServiceProcess]:
        return self._stack.services

    async def _observe(self) -> None:
        gateway, approval = self._stack.gateways[0], self._stack.approvals[0]
        addresses = itertools.cycle(HEALTH_ADDRESSES)
        for service, path in itertools.product((gateway, approval), ("/livez", "/readyz")):
            self._every(HEALTH_PERIOD_SECONDS, partial(self._check, service, path, addresses))
        sessions = itertools.cycle(self._sessions)
        self._every(CALL_PERIOD_SECONDS, lambda: self._call(next(sessions)))
        target = read_target(gateway.ws_url)
        dialer = Dialer(target, NEWCOMER_ADDRESSES)
        await dialer.prepare()
        caller = Caller(target, dialer, NEWCOMER_SECONDS)
        paired = itertools.cycle((True, False))
        self._every(NEWCOMER_PERIOD_SECONDS, lambda: self._arrive(caller, paired=next(paired)))
        self._start(self._watch_loop())

    def _every(self, seconds: float, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def beginning() -> None:
            due = self._now()
            while True:
                self._start(begin())
                due += seconds
                await asyncio.sleep(due - self._now())

        self._start(beginning())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check(self, service: ServiceProcess, path: str, addresses: Iterator[str]) -> None:
        with self._sampled(self._seen.health, HEALTH_SECONDS) as attempt:
            try:
                async with asyncio.timeout(HEALTH_DEADLINE_SECONDS):
                    status = await _get(service.port, path, next(addresses))
                if status != b"200":
                    status = status or b"cut off"
                    attempt.why = f"{service.name}{path}: {status.decode(errors='replace')}"
            except (OSError, TimeoutError) as error:
                attempt.why = f"{service.name}{path}: {type(error).__name__}"

    async def _call(self, session: Connection) -> None:
        """Call a method; sessions that are lost are counted by themselves."""
        if session.is_open:
            with self._sampled(self._seen.calls, CALL_SECONDS) as attempt:
                attempt.why = await _call_problem(session)
                attempt.counts = not attempt.why or session.is_open

    async def _arrive(self, caller: Caller, *, paired: bool) -> None:
        identity = next(self._visitors) if paired else new_identities(1, approved=False)[0]
        device = LoadDevice(identity, self._stack.gateway_token, 0)
        wanted = Kind.ADMITTED if paired else Kind.REFUSED
        with self._sampled(self._seen.newcomers, NEWCOMER_SECONDS) as attempt:
            decided = FAILED
            try:
                async with asyncio.timeout(NEWCOMER_SECONDS):
                    while (outcome := (await caller.connect(device)).outcome).kind is not wanted:
                        decided = f"{outcome.kind} {outcome.what}"
                        attempt.attempts += 1
                        await asyncio.sleep(AGAIN_SECONDS)
            except TimeoutError:
                attempt.why = decided

    @contextlib.contextmanager
    def _sampled(self, samples: list[Sample], limit: float) -> Iterator[_Attempt]:
        """Add a sample at the end of the block, also of what is unanswered when all is over."""
        attempt, began = _Attempt(), self._now()
        try:
            yield attempt
        except asyncio.CancelledError:
            attempt.why = UNANSWERED
            attempt.counts = began < self._seen.over or self._now() - began > limit
            raise
        finally:
            if attempt.counts:
                samples.append(Sample(began, self._now(), attempt.why, attempt.attempts))

    async def _watch_loop(self) -> None:
        while True:
            due = self._now() + LOOP_PERIOD_SECONDS
            await asyncio.sleep(LOOP_PERIOD_SECONDS)
            self._seen.drill_stalled = max(self._seen.drill_stalled, self._now() - due)


async def _call_problem(session: Connection) -> str:
    """Call a method; return why that failed, empty if it did not."""
    try:
        answer = await session.call("health", within=CALL_DEADLINE_SECONDS)
    except (DeviceClientError, OSError) as error:
        return type(error).__name__
    return "" if answer.ok else "an error"


async def _get(port: int, path: str, address: str) -> bytes:
    """Return the status of a response on a new connection; empty without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        )
        head = await reader.readline()
        await reader.read()
    finally:
        writer.close()
    parts = head.split(b" ")
    return parts[1] if len(parts) > 1 else b""
