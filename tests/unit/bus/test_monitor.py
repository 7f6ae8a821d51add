"""Outages: when to reconnect, and what is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.testing import capture_logs

from shared.bus import counters
from shared.bus.monitor import (
    BACKOFF_FIRST_SECONDS,
    BACKOFF_LIMIT_SECONDS,
    DESCRIBED_LIMIT_CHARACTERS,
    ConnectionMonitor,
    SilenceError,
    describe,
)
from tests.unit.rpc.fake_bus import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clock import FakeClock


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as captured:
        yield captured  # type: ignore[misc]


@pytest.fixture
def link(clock: FakeClock, counts: Counts, logs: object) -> ConnectionMonitor:
    return ConnectionMonitor("subscription", clock, structlog.get_logger(), counts)


class TestPauses:
    def test_the_first_is_short_they_double_and_are_capped(self, link: ConnectionMonitor) -> None:
        pauses = [link.failed(OSError("refused")) for _ in range(30)]
        assert pauses[0] < 0.1
        for n, pause in enumerate(pauses):
            longest = min(BACKOFF_LIMIT_SECONDS, BACKOFF_FIRST_SECONDS * 2**n)
            assert longest / 2 <= pause <= longest

    def test_pauses_are_jittered(self, link: ConnectionMonitor) -> None:
        pauses = {round(link.failed(OSError()), 6) for _ in range(30)}
        assert len(pauses) > 20

    def test_once_connected_they_are_short_again(self, link: ConnectionMonitor) -> None:
        for _ in range(10):
            link.failed(OSError())
        link.connected()
        assert link.failed(OSError()) <= BACKOFF_FIRST_SECONDS


class TestOutages:
    def test_each_is_logged_once_when_it_begins_and_once_when_it_ends(
        self, link: ConnectionMonitor, clock: FakeClock, logs: list[dict[str, object]]
    ) -> None:
        link.works()
        assert logs == []
        for _ in range(5):
            link.failed(OSError("refused"))
            clock.advance(1.0)
        link.works()
        link.works()
        assert [log["event"] for log in logs] == ["bus_lost", "bus_back"]
        assert logs[0]["error"] == "OSError: refused"
        assert logs[1]["seconds"] == 5.0

    def test_trouble_says_what_it_is_at_present(self, link: ConnectionMonitor) -> None:
        assert link.trouble == ""
        link.failed(OSError("refused"))
        link.failed(OSError("wrong password"))
        assert link.trouble == "OSError: wrong password"
        link.works()
        assert link.trouble == ""

    def test_where_nobody_speaks_it_is_said_once_however_often_it_is_confirmed(
        self, link: ConnectionMonitor, logs: list[dict[str, object]]
    ) -> None:
        for _ in range(5):
            link.failed(SilenceError(3.0))
            link.connected()
            assert link.trouble == ""
        link.works()
        assert [log["event"] for log in logs] == ["bus_lost", "bus_back"]

    def test_any_other_outage_ends_when_it_is_confirmed(
        self, link: ConnectionMonitor, logs: list[dict[str, object]]
    ) -> None:
        link.failed(SilenceError(3.0))
        link.failed(OSError("refused"))
        link.connected()
        assert [log["event"] for log in logs] == ["bus_lost", "bus_back"]

    def test_silence_is_distinguished(self, link: ConnectionMonitor, counts: Counts) -> None:
        link.failed(SilenceError(3.0))
        silence = (link.silent, link.trouble)
        assert silence == (True, "no message for 3 s")
        link.failed(OSError())
        assert link.silent is False
        assert counts.of == {
            (counters.CONNECTIONS_LOST, "subscription", "silence"): 1,
            (counters.CONNECTIONS_LOST, "subscription", "error"): 1,
        }


def test_an_error_without_words_is_described_all_the_same() -> None:
    assert describe(TimeoutError()) == "TimeoutError: no answer in time"
    assert len(describe(OSError("x" * 10_000))) == DESCRIBED_LIMIT_CHARACTERS
