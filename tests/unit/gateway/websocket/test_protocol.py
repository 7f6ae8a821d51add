"""Reading from a client pauses while a chunk is parsed, and while the upstream does not read."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.websocket.memory import MemoryBudget
from services.gateway.websocket.protocol import PARSED_PER_TURN_BYTES, SocketProtocol
from shared.server.loop_budget import HANDSHAKES_WAITING_MAX, Lane, LoopBudget
from tests.support.clock import FakeClock
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY = MemoryBudget(FakeClock(), limit_bytes=1_000_000)


class FakeTransport:
    """Records whether it is read from."""

    def __init__(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Handler:
    """An admitted client's handler; its upstream is full for an instant, at every message."""

    is_unauthenticated = False
    message_limit_bytes = 1_000_000
    limit_key = "192.0.2.1"

    def __init__(self) -> None:
        self.socket: Any = None
        self.messages: list[bytes] = []
        self.errors: list[Exception] = []

    def on_message(self, _opcode: int, payload: bytes) -> None:
        self.messages.append(payload)
        self.socket.hold_reading()
        self.socket.release_reading()

    def on_progress(self) -> None: ...

    def on_protocol_error(self, error: Exception) -> None:
        self.errors.append(error)


def frame(content: bytes) -> bytes:
    return b"\x81\xfe" + len(content).to_bytes(2, "big") + b"\0\0\0\0" + content


async def test_nothing_is_read_before_the_rest_of_a_chunk_is_parsed() -> None:
    transport, handler = FakeTransport(), Handler()
    budget = LoopBudget(asyncio.get_running_loop().call_soon)
    socket = handler.socket = SocketProtocol(transport, handler, MEMORY, budget)  # type: ignore[arg-type]
    sent = [bytes([n]) * 5_000 for n in range(24)]
    chunk = b"".join(map(frame, sent[:-1]))
    assert len(chunk) > 4 * PARSED_PER_TURN_BYTES
    socket.data_received(chunk)
    await until(lambda: transport.reading, "all of it is parsed")
    socket.data_received(frame(sent[-1]))
    assert handler.messages == sent
    assert not handler.errors


class Stranger(Handler):
    """The handler of a client that is not admitted yet."""

    is_unauthenticated = True


class Upgrade:
    """An upgrade that waits."""

    is_served = False

    def run_slice(self, *, overdue: bool) -> bool:
        self.is_served = not overdue
        return False


@pytest.mark.parametrize("goes_on", [False, True])
async def test_only_handshakes_that_wait_to_begin_hold_up_all_upgrades(*, goes_on: bool) -> None:
    """Otherwise, clients that go on sending could stop upgrades for good."""
    scheduled: list[Callable[[], None]] = []
    budget = LoopBudget(scheduled.append, count(100.0, 0.001).__next__)
    sockets = []
    for _ in range(2 * HANDSHAKES_WAITING_MAX):
        handler = Stranger()
        handler.socket = SocketProtocol(FakeTransport(), handler, MEMORY, budget)  # type: ignore[arg-type]
        sockets.append(handler.socket)
    if goes_on:
        for socket in sockets:
            budget.release(Lane.HANDSHAKES)
            socket.data_received(frame(b"first"))
            while scheduled:
                scheduled.pop()()
    budget.hold(Lane.HANDSHAKES)
    for socket in sockets:
        socket.data_received(frame(b"more"))
    upgrade = Upgrade()
    budget.wait(Lane.UPGRADES, upgrade)
    budget.release(Lane.HANDSHAKES)
    scheduled.pop()()
    assert budget.waiting(Lane.HANDSHAKES) > HANDSHAKES_WAITING_MAX
    assert upgrade.is_served is goes_on
