"""Overload of a gateway process: sessions and health checks go on, and admissions do not collapse."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from statistics import quantiles
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import pytest

from shared.clock import NS_PER_MS, SystemClock
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from shared.protocol.limits import OWN_FRAME_LIMIT_BYTES
from shared.rpc.messages import AuthorizeDevice, decode_question
from shared.rpc.question_window import WINDOW_MAX_QUESTIONS
from tests.integration.gateway.process import BUS_SECRET, GATEWAY_TOKEN, gateway_process
from tests.support.websocket.raw_socket import PONG, Gone, RawSocket, frame_bytes
from tools.support.peers import FakeApproval
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from shared.rpc.responder import Question, Reply
    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess

pytestmark = pytest.mark.xdist_group("gateway overload")

GOOD: Final = Credentials(token=GATEWAY_TOKEN)
PROBE_SECONDS: Final = 0.05

JUNK_SOCKETS: Final = 150
JUNK_SECONDS: Final = 5.0
JUNK: Final = frame_bytes(b"x", PONG) * 30_000
"""Frames of 7 bytes, which nobody answers: what a socket may send at once."""
PER_ADDRESS: Final = 15
ANSWER_SECONDS: Final = 0.5
"""What nine answers of ten take at most, while this machine also runs the flood."""
LONGEST_SECONDS: Final = 1.5

MALFORMED_SOCKETS: Final = 3
MALFORMED_SECONDS: Final = 3.0
_HEAD: Final = b'{"type":"req","id":"","x":['
_END: Final = b"0]}"
MALFORMED: Final = (
    _HEAD + b"[]," * ((OWN_FRAME_LIMIT_BYTES - len(_HEAD) - len(_END)) // len(b"[],")) + _END
)

ANSWERED_PER_SECOND: Final = 40
OFFERED_PER_SECOND: Final = 160
STORM_MAX_SECONDS: Final = 25.0
SETTLED_SECONDS: Final = 4.0
GOODPUT_SECONDS: Final = 5.0
"""When the storm is settled: the first questions are answered in any case."""
CLIENT_SECONDS: Final = 4.0
"""When a client gives up."""
STORM_ADDRESSES: Final = 200


@pytest.fixture
def process(tmp_path: Path, redis_process: RedisServer) -> Iterator[ServiceProcess]:
    """One gateway."""
    redis_process.make_empty()
    with gateway_process(tmp_path, redis_process) as process:
        yield process


@pytest.fixture
async def approval(
    process: ServiceProcess, redis_process: RedisServer
) -> AsyncIterator[SlowApproval]:
    """Return an approval that runs during the test, once the gateway is ready."""
    async with SlowApproval(redis_process.approval_url, BUS_SECRET) as approval:
        await process.until_ready()
        yield approval


async def metric(gateway: ServiceProcess, name: str) -> float:
    """Return the value of a metric, by name and labels."""
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


class Probe:
    """A session that makes calls, and health checks over new connections; takes the times."""

    def __init__(self, gateway: ServiceProcess, session: RawSocket) -> None:
        self._gateway = gateway
        self._session = session
        self.calls: list[float] = []
        self.checks: list[float] = []

    async def run(self) -> None:
        """Probe until cancelled."""
        await asyncio.gather(self._repeat(self.calls, self._call), self._checks())

    async def _checks(self) -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:

            async def check() -> None:
                async with http.get(f"{self._gateway.url}/livez") as answer:
                    assert answer.status == 200

            await self._repeat(self.checks, check)

    async def _call(self) -> None:
        await self._session.send(b'{"type":"req","id":"1","method":"health"}')
        while (await self._session.receive_text())["type"] == "event":
            pass

    async def _repeat(self, times: list[float], once: Callable[[], Awaitable[None]]) -> None:
        while True:
            began = time.monotonic()
            await once()
            times.append(time.monotonic() - began)
            await asyncio.sleep(PROBE_SECONDS)


@contextlib.asynccontextmanager
async def probed(gateway: ServiceProcess) -> AsyncIterator[Probe]:
    """Probe a gateway meanwhile."""
    async with await RawSocket.open(gateway.port) as session:
        assert (await session.connect(DeviceKey.generate(), CLI, GOOD))["ok"]
        probe = Probe(gateway, session)
        task = asyncio.create_task(probe.run())
        try:
            yield probe
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def pump(sockets: list[RawSocket], stop: threading.Event) -> None:
    """Send junk on all sockets, as fast as the gateway reads it."""
    while not stop.is_set():
        for raw in sockets:
            with contextlib.suppress(BlockingIOError):
                raw._sock.send(JUNK)
        stop.wait(0.001)


async def test_junk_frames_of_many_sockets_delay_neither_sessions_nor_health(
    process: ServiceProcess, approval: SlowApproval
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sockets = []
        for number in range(JUNK_SOCKETS):
            raw = await RawSocket.open(process.port, source=f"127.0.1.{1 + number // PER_ADDRESS}")
            stack.callback(raw.hang_up)
            assert (await raw.connect(None, CLI, GOOD))["ok"]
            sockets.append(raw)
        probe = await stack.enter_async_context(probed(process))
        stop = threading.Event()
        flood = threading.Thread(target=pump, args=(sockets, stop))
        flood.start()
        try:
            await asyncio.sleep(JUNK_SECONDS)
        finally:
            stop.set()
            flood.join()
    for name, times in {"calls": probe.calls, "checks": probe.checks}.items():
        assert quantiles(times, n=10)[-1] < ANSWER_SECONDS, (name, sorted(times)[-10:])
        assert max(times) < LONGEST_SECONDS, name


async def send_malformed(raw: RawSocket) -> None:
    """Send long malformed requests, one after the other."""
    while True:
        await raw.send(MALFORMED)
        while (answer := await raw.receive_text())["type"] == "event":
            pass
        assert answer["error"]["code"] == "INVALID_REQUEST"
        assert "not a request" in answer["error"]["message"], (
            "the generic error, without a search for the fault"
        )


async def test_long_malformed_frames_delay_neither_sessions_nor_health(
    process: ServiceProcess, approval: SlowApproval
) -> None:
    """Searching one of them for its fault would block the event loop."""
    async with contextlib.AsyncExitStack() as stack:
        senders = []
        for _ in range(MALFORMED_SOCKETS):
            raw = await stack.enter_async_context(await RawSocket.open(process.port))
            assert (await raw.connect(DeviceKey.generate(), CLI, GOOD))["ok"]
            senders.append(raw)
        probe = await stack.enter_async_context(probed(process))
        sending = [asyncio.create_task(send_malformed(raw)) for raw in senders]
        await asyncio.sleep(MALFORMED_SECONDS)
        for task in sending:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    for name, times in {"calls": probe.calls, "checks": probe.checks}.items():
        assert quantiles(times, n=10)[-1] < ANSWER_SECONDS, (name, sorted(times)[-10:])
        assert max(times) < LONGEST_SECONDS, name


class SlowApproval(FakeApproval):
    """Answers only so many questions about admissions a second, one message after the other.

    As the real one, it drops what is asked too late to be answered.
    """

    per_second: float | None = None
    """None: at once."""

    async def __aenter__(self) -> Self:
        self._turn = asyncio.Lock()
        return await super().__aenter__()

    async def _handle(self, questions: Sequence[Question]) -> list[Reply]:
        asked = [decode_question(question.body) for question in questions]
        slow = any(isinstance(question, AuthorizeDevice) for question in asked)
        if slow and self.per_second is not None:
            async with self._turn:
                now_ms = SystemClock().wall_ns() // NS_PER_MS
                in_time = sum(
                    isinstance(question, AuthorizeDevice) and question.not_after_ms > now_ms
                    for question in asked
                )
                await asyncio.sleep(in_time / self.per_second)
        return await super()._handle(questions)


async def admitted(gateway: ServiceProcess, number: int) -> bool:
    """Connect a device that gives up after its deadline; return whether it was admitted."""
    source = f"127.0.2.{1 + number % STORM_ADDRESSES}"
    try:
        async with (
            asyncio.timeout(CLIENT_SECONDS),
            await RawSocket.open(gateway.port, source=source) as raw,
        ):
            if raw.status != 101:
                return False
            answer = await raw.connect(DeviceKey.generate(), CLI, GOOD)
            return bool(answer["ok"])
    except (TimeoutError, Gone):
        return False


async def test_a_storm_beyond_what_approval_answers_does_not_stop_admissions(
    process: ServiceProcess, approval: SlowApproval
) -> None:
    """Four times as many clients as approval can answer, with a deadline.

    The storm lasts until enough of them were served for some seconds, because this machine may be
    busy for a while. Without protection that does not come to pass while it lasts.
    """
    async with probed(process) as probe:
        approval.per_second = ANSWERED_PER_SECOND
        began = time.monotonic()
        clients: list[asyncio.Task[bool]] = []
        served_at: list[float] = []

        def note(client: asyncio.Task[bool]) -> None:
            if not client.cancelled() and client.result():
                served_at.append(time.monotonic() - began)

        def goodput(until: float) -> float:
            since = until - GOODPUT_SECONDS
            return sum(since < at <= until for at in served_at) / GOODPUT_SECONDS

        best = 0.0
        while (elapsed := time.monotonic() - began) < STORM_MAX_SECONDS:
            while len(clients) < elapsed * OFFERED_PER_SECOND:
                clients.append(asyncio.create_task(admitted(process, len(clients))))
                clients[-1].add_done_callback(note)
            if elapsed >= SETTLED_SECONDS + GOODPUT_SECONDS:
                best = max(best, goodput(elapsed))
                if best >= 0.6 * ANSWERED_PER_SECOND:
                    break
            await asyncio.sleep(POLL_SECONDS)
        smallest = await metric(process, "latchkey_gateway_question_window")
        await asyncio.gather(*clients)
        approval.per_second = None
    assert best >= 0.6 * ANSWERED_PER_SECOND
    assert smallest < WINDOW_MAX_QUESTIONS / 4
    assert max(probe.calls) < LONGEST_SECONDS
    assert max(probe.checks) < LONGEST_SECONDS
    await recovered(process)


async def recovered(gateway: ServiceProcess) -> None:
    """Connect devices until the window has opened again."""
    before = await metric(gateway, "latchkey_gateway_question_window")
    async with asyncio.timeout(WAIT_SECONDS):
        while await metric(gateway, "latchkey_gateway_question_window") < before + 32:
            results = await asyncio.gather(*(admitted(gateway, number) for number in range(20)))
            assert all(results)
