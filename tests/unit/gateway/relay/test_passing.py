"""Frames pass only to clients that are served, and are counted once for each read."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway.relay.counts import RelayCounts
from services.gateway.relay.passing import DownwardPasser, UpwardPasser
from shared.protocol.limits import BUFFERED_LIMIT_BYTES

FRAMES = b"\x81\x01a\x81\x01b"


class Transport:
    """A client's transport."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffered = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.buffered


class Both:
    """Everything beside the passers: connection, hub and upstream in one."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.pinged = True
        self.is_served = True
        self.slow: list[object] = []
        self.sent_up: list[bytes] = []
        self.counts = RelayCounts()
        both: Any = self
        self.up = UpwardPasser(both, both, both, self.counts)
        self.down = DownwardPasser(both, both, both, self.counts)

    def serves(self, _connection: object) -> bool:
        return self.is_served

    def close_if_slow(self, connection: object) -> None:
        self.slow.append(connection)

    def send_frames(self, frames: bytes) -> None:
        self.sent_up.append(frames)


@pytest.fixture
def both() -> Both:
    return Both()


def test_frames_of_one_read_are_written_once_and_counted(both: Both) -> None:
    both.up.on_frames(FRAMES, 2, 200)
    both.down.on_frames(FRAMES, 3, 300)
    assert (both.sent_up, both.transport.written) == ([FRAMES], [FRAMES])
    assert both.counts == RelayCounts(frames_up=2, bytes_up=200, frames_down=3, bytes_down=300)


def test_nothing_passes_in_either_direction_without_a_lease(both: Both) -> None:
    both.is_served = False
    both.up.on_frames(FRAMES, 2, 200)
    both.down.on_frames(FRAMES, 2, 200)
    assert (both.sent_up, both.transport.written, both.counts) == ([], [], RelayCounts())


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_frame_answers_a_ping(both: Both, way: str) -> None:
    getattr(both, way).on_frames(FRAMES, 2, 200)
    assert not both.pinged


def test_a_client_that_sends_and_does_not_read_is_closed(both: Both) -> None:
    both.transport.buffered = BUFFERED_LIMIT_BYTES
    both.up.on_frames(FRAMES, 2, 200)
    assert both.slow == []
    both.transport.buffered += 1
    both.up.on_frames(FRAMES, 2, 200)
    assert both.slow == [both]
