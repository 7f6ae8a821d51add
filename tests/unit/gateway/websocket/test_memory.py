"""The memory of incomplete and unread messages, over all sockets."""

from __future__ import annotations

import pytest

from services.gateway.websocket.memory import MemoryBudget, Part
from tests.support.clock import FakeClock

LIMIT_BYTES = 100
DEADLINE_SECONDS = 10.0


class Socket:
    """Records why it was closed."""

    def __init__(self) -> None:
        self.unread = 0
        self.shed_for: list[str] = []
        self.progress = 0

    def on_progress(self) -> None:
        self.progress += 1

    def unread_bytes(self) -> int:
        return self.unread

    def shed(self, reason: str) -> None:
        self.shed_for.append(reason)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(clock: FakeClock) -> MemoryBudget:
    return MemoryBudget(clock, limit_bytes=LIMIT_BYTES, deadline_seconds=DEADLINE_SECONDS)


def test_the_parts_of_a_socket_add_up(memory: MemoryBudget) -> None:
    socket = Socket()
    for part in Part:
        memory.hold(socket, part, 10)
    assert memory.held_bytes == 30
    memory.hold(socket, Part.OUTPUT, 5)
    assert memory.held_bytes == 25
    memory.release(socket)
    memory.release(socket)
    assert memory.held_bytes == 0


def test_up_to_the_limit_nobody_is_closed(memory: MemoryBudget) -> None:
    one, other = Socket(), Socket()
    memory.hold(one, Part.INPUT, LIMIT_BYTES - 1)
    memory.hold(other, Part.INPUT, 1)
    assert (one.shed_for, other.shed_for) == ([], [])


def test_beyond_it_those_that_hold_the_most_are_closed_until_the_rest_fits(
    memory: MemoryBudget,
) -> None:
    small, large, mixed = Socket(), Socket(), Socket()
    memory.hold(large, Part.INPUT, 35)
    memory.hold(mixed, Part.INPUT, 20)
    memory.hold(mixed, Part.UPSTREAM, 25)
    memory.hold(small, Part.INPUT, 85)
    assert (small.shed_for, large.shed_for, mixed.shed_for) == (["memory limit"], [], [])
    assert (memory.held_bytes, memory.shed_for_memory) == (80, 1)
    memory.hold(Socket(), Part.INPUT, 30)
    assert (large.shed_for, mixed.shed_for) == ([], ["memory limit"])
    assert memory.held_bytes == 65


def test_unread_bytes_are_measured_again(memory: MemoryBudget) -> None:
    socket, other = Socket(), Socket()
    memory.hold(socket, Part.OUTPUT, 10)
    memory.hold(other, Part.INPUT, 20)
    socket.unread = 81
    memory.sweep()
    assert socket.shed_for == ["memory limit"]
    assert memory.held_bytes == 20


def test_an_incomplete_message_has_a_deadline(memory: MemoryBudget, clock: FakeClock) -> None:
    socket, message = Socket(), bytearray()
    memory.hold(socket, Part.INPUT, 1, message)
    clock.advance(DEADLINE_SECONDS)
    memory.hold(socket, Part.INPUT, 2, message)
    memory.sweep()
    assert not socket.shed_for
    clock.advance(0.1)
    memory.sweep()
    assert socket.shed_for == ["incomplete message"]
    assert (memory.held_bytes, memory.shed_for_time) == (0, 1)


def test_the_next_message_has_a_deadline_of_its_own(memory: MemoryBudget, clock: FakeClock) -> None:
    socket = Socket()
    messages = [bytearray() for _ in range(5)]
    for message in messages:
        memory.hold(socket, Part.INPUT, 1, message)
        clock.advance(DEADLINE_SECONDS / 2)
        memory.sweep()
    assert not socket.shed_for


def test_what_only_waits_to_be_read_has_none(memory: MemoryBudget, clock: FakeClock) -> None:
    socket = Socket()
    socket.unread = 10
    memory.hold(socket, Part.OUTPUT, 10)
    clock.advance(2 * DEADLINE_SECONDS)
    memory.sweep()
    assert not socket.shed_for


def test_a_client_that_reads_slowly_makes_progress(memory: MemoryBudget) -> None:
    socket = Socket()
    memory.hold(socket, Part.OUTPUT, 50)
    for unread, progress in ((50, 0), (49, 1), (49, 1), (60, 1), (20, 2)):
        socket.unread = unread
        memory.sweep()
        assert socket.progress == progress
