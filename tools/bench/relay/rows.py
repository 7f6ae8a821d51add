"""Measures relayed frames, idle relayed sessions, and memory while one side does not read.

Client and upstream share the load's core; each proxy has the other one while its turn lasts. A
client sends its next frame when the echo of the last one is back. CPU is that of the proxy alone,
per frame that passed it in either direction, so it does not depend on the speed of the load.
Ratios and differences compare figures of the same round.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import uvloop

from deploy.local.errors import RunError
from services.gateway.websocket.frames import frame_header
from tools.bench.relay.client import join, left, request_of
from tools.bench.relay.proxies import (
    DEVICES,
    DIRECT,
    LATCHKEY,
    direct,
    haproxy,
    nginx,
    relay,
    upstream,
)
from tools.bench.relay.upstream import DEAF, FLOOD
from tools.bench.table import plain_table, spread
from tools.load.client.wire import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tools.bench.relay.client import Client
    from tools.bench.relay.proxies import Relaying

SIZES: Final = {"300 B": 300, "16 KB": 16_384, "1 MB": 1_048_576}
CONNECTIONS: Final = (1, 50, 500)
IDLE_SESSIONS: Final = 1_000
STALL_SECONDS: Final = 5.0
WARM_UP_SECONDS: Final = 0.5
_SAMPLE_SECONDS: Final = 0.1
_MEGABYTE: Final = 1_000_000
_MASK: Final = b"\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Passed:
    """One round of echoes. `cpu_us` is the proxy's CPU per frame, in either direction."""

    frames_per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    wrong: str

    @property
    def frames_per_core_second(self) -> float:
        """Frames that the proxy passes in a second of CPU time."""
        return 1e6 / self.cpu_us if self.cpu_us else 0.0


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """What to measure, and for how long. `sizes` are names of SIZES."""

    rounds: int
    seconds: float
    sizes: Sequence[str] = tuple(SIZES)
    connections: Sequence[int] = CONNECTIONS
    with_memory: bool = True
    """Whether to measure idle sessions and stalls as well."""


def relayed(directory: Path, core: int, plan: RelayPlan) -> Iterator[str]:
    """Yield the tables of idle sessions, stalls, and all sizes and numbers of connections.

    Memory is measured on fresh processes: memory that a process freed earlier may stay resident,
    and would hide later allocations.
    """
    with upstream() as port:
        if plan.with_memory:
            with _proxies(directory / "idle", port, core) as proxies:
                yield _idle(proxies)
            with _proxies(directory / "stalled", port, core) as proxies:
                yield _stalled(proxies)
        with _proxies(directory / "echoes", port, core) as proxies:
            subjects = [direct(port), *proxies]
            for name in plan.sizes:
                for connections in plan.connections:
                    yield _echoes(subjects, name, connections, plan)


@contextmanager
def _proxies(directory: Path, port: int, core: int) -> Iterator[list[Relaying]]:
    """Start all proxies that are installed."""
    with ExitStack() as stack:
        found = [
            stack.enter_context(haproxy(_made(directory / "haproxy"), port, core)),
            stack.enter_context(nginx(_made(directory / "nginx"), port, core)),
            stack.enter_context(relay(_made(directory / "latchkey"), port, core)),
        ]
        yield [item for item in found if item is not None]


def _echoes(subjects: Sequence[Relaying], size: str, connections: int, plan: RelayPlan) -> str:
    passed: dict[str, list[Passed]] = {subject.name: [] for subject in subjects}
    for _ in range(plan.rounds):
        for subject in subjects:
            found = uvloop.run(_echo(subject, SIZES[size], connections, plan.seconds))
            passed[subject.name].append(found)
    title = f"Relayed echo, {size}, {connections} connection{'s'[: connections > 1]}"
    return echo_table(f"{title} ({plan.rounds} rounds of {plan.seconds:g} s)", passed)


def echo_table(title: str, passed: Mapping[str, Sequence[Passed]]) -> str:
    """Return the figures of all subjects; rounds alternate between the subjects."""
    direct, ours = passed[DIRECT], passed[LATCHKEY]
    rows = [
        (
            name,
            spread([item.frames_per_second for item in found], "{:,.0f}"),
            spread([item.cpu_us for item in found], "{:,.1f}") if found[0].cpu_us else "",
            _ratio(ours, found, lambda item: item.cpu_us),
            _ratio(ours, found, lambda item: item.frames_per_core_second),
            spread([item.p50_ms for item in found], "{:.3f}"),
            _added(direct, found),
            spread([item.p99_ms for item in found], "{:.3f}"),
        )
        for name, found in passed.items()
    ]
    heads = (
        "", "frames a second", "CPU µs a frame", "CPU: Latchkey / this",
        "frames per second per core: Latchkey / this", "p50 of an echo, ms",
        f"p50 of an echo: this - {DIRECT}, ms", "p99 of an echo, ms",
    )  # fmt: skip
    remarks = [
        f"\n{name}: {wrong}"
        for name, found in passed.items()
        for wrong in dict.fromkeys(item.wrong for item in found if item.wrong)
    ]
    return plain_table(title, heads, rows) + "".join(remarks)


async def _echo(subject: Relaying, size: int, connections: int, seconds: float) -> Passed:
    clients = await join(subject, connections)
    request = request_of(size)
    for client in clients:
        client.start(request)
    await asyncio.sleep(WARM_UP_SECONDS)
    for client in clients:
        client.echoes, client.times = 0, []
    cpu, began = subject.cpu_seconds(), asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    cpu, took = subject.cpu_seconds() - cpu, asyncio.get_running_loop().time() - began
    frames = 2 * sum(client.echoes for client in clients)
    times = sorted(each for client in clients for each in client.times or ())
    for client in clients:
        client.stop()
    wrong = left(clients)
    if not times:
        return Passed(0.0, 0.0, math.nan, math.nan, wrong or "no frame came back")
    return Passed(
        frames / took,
        cpu / frames * 1e6,
        statistics.median(times) * 1e3,
        times[int(len(times) * 0.99)] * 1e3,
        wrong,
    )


def _idle(subjects: Sequence[Relaying]) -> str:
    rows = []
    for subject in subjects:
        each = uvloop.run(_idle_bytes(subject))
        rows.append((subject.name, f"{IDLE_SESSIONS:,}", f"{each / 1000:.1f}"))
    heads = ("", "sessions", "resident memory of the proxy, KB more for each")
    return plain_table("Idle relayed sessions", heads, rows)


async def _idle_bytes(subject: Relaying) -> float:
    """Return the memory per session, when sessions of all devices are already open."""
    first = await join(subject, DEVICES)
    await asyncio.sleep(1)
    before = subject.resident_bytes()
    clients = await join(subject, IDLE_SESSIONS)
    await asyncio.sleep(1)
    grown = subject.resident_bytes() - before
    if wrong := left([*first, *clients]):
        raise RunError(f"{subject.name}: {wrong}")
    return grown / IDLE_SESSIONS


def _stalled(subjects: Sequence[Relaying]) -> str:
    rows = []
    for subject in subjects:
        down, up = (uvloop.run(_stall(subject, mode)) for mode in (FLOOD, DEAF))
        rows.append((subject.name, f"{down / _MEGABYTE:.1f}", f"{up / _MEGABYTE:.1f}"))
    heads = ("", "client stops reading, MB more", "upstream stops reading, MB more")
    title = f"Memory while one side sends without end, {STALL_SECONDS:g} s"
    return plain_table(title, heads, rows)


async def _stall(subject: Relaying, mode: bytes) -> float:
    """Return the maximum memory that the proxy uses for a sender whose peer does not read."""
    (client,) = await join(subject, 1)
    before = subject.resident_bytes()
    payload = mode + b"}"
    client.write(frame_header(TEXT, len(payload), masked=True) + _MASK + payload)
    loop = asyncio.get_running_loop()
    until, maximum = loop.time() + STALL_SECONDS, 0
    if mode == FLOOD:
        client.pause_reading()
    sender = loop.create_task(_send(client)) if mode == DEAF else None
    while loop.time() < until:
        await asyncio.sleep(_SAMPLE_SECONDS)
        maximum = max(maximum, subject.resident_bytes() - before)
    if sender is not None:
        sender.cancel()
    else:
        client.count_bytes()
        await asyncio.sleep(1)
        if client.bytes_received < _MEGABYTE:
            raise RunError(f"{subject.name}: the upstream did not send without end")
    client.abort()
    return maximum


async def _send(client: Client) -> None:
    """Send for as long as the connection takes it."""
    frame = request_of(SIZES["16 KB"])
    while True:
        while not client.full:
            client.write(frame)
        await asyncio.sleep(_SAMPLE_SECONDS)


def _ratio(
    ours: Sequence[Passed], theirs: Sequence[Passed], value: Callable[[Passed], float]
) -> str:
    """Return median and range of the ratio of ours to theirs, round by round."""
    pairs = [
        value(mine) / value(other) for mine, other in zip(ours, theirs, strict=True) if value(other)
    ]
    return spread(pairs, "{:.2f}") if pairs and ours is not theirs else ""


def _added(direct: Sequence[Passed], found: Sequence[Passed]) -> str:
    """Return median and range of the p50 added to that without a proxy, round by round."""
    if found is direct:
        return ""
    added = [this.p50_ms - without.p50_ms for without, this in zip(direct, found, strict=True)]
    return spread(added, "{:.3f}")


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
