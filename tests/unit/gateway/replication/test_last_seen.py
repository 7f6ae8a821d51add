"""Admissions are reported with heartbeats until one of them is answered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.gateway.handshake.outcome import Session
from services.gateway.replication.presence import REPORTED_LIMIT_HEARTBEATS, LastSeen
from shared.rpc.messages import ClientInfo
from shared.rpc.reports import Seen

CLI = ClientInfo("cli", "cli", "1", "linux", "Linux")
Told = list[tuple[str, int]]


def saw(sightings: LastSeen, device: str, at: float = 0.0, method: str = "token") -> None:
    session = Session("boot:1", 4, "operator", (), device, method, "192.0.2.1")
    sightings.record(session, CLI, at)


def tell(sightings: LastSeen, heartbeat_id: int, now: float = 0.0) -> Told:
    return [(item.device_id, item.age_ms) for item in sightings.take_unsent(heartbeat_id, now)]


class TestTelling:
    def test_each_report_has_device_time_method_and_address(self) -> None:
        sightings = LastSeen()
        session = Session("boot:1", 4, "node", (), "a", "device-token", "2001:db8::1")
        sightings.record(session, CLI, 5.0)
        assert sightings.take_unsent(1, 7.5) == [
            Seen("a", "node", "device-token", "2001:db8::1", 2500)
        ]

    def test_its_name_and_the_platform_of_a_native_app(self) -> None:
        sightings = LastSeen()
        session = Session("boot:1", 4, "operator", (), "a", "token", "2001:db8::1")
        app = ClientInfo("openclaw-ios", "ui", "1", "iOS 26.4.2" + "2" * 200, "iPhone", "Phone")
        sightings.record(session, app, 5.0)
        (seen,) = sightings.take_unsent(1, 5.0)
        assert (seen.name, seen.app) == ("Phone", "openclaw-ios")
        assert seen.platform == app.platform[:128], "a heartbeat is bounded"

    def test_the_name_of_the_last_time(self) -> None:
        sightings = LastSeen()
        session = Session("boot:1", 4, "operator", (), "a", "token", "2001:db8::1")
        for name in ("old", "new"):
            sightings.record(session, replace(CLI, display_name=name), 5.0)
        assert [item.name for item in sightings.take_unsent(1, 5.0)] == ["new"]

    def test_once_it_was_answered_never_again(self) -> None:
        sightings = LastSeen()
        saw(sightings, "a")
        assert tell(sightings, 1) == [("a", 0)]
        sightings.acknowledge(1)
        assert tell(sightings, 2) == []
        assert len(sightings) == 0

    def test_until_it_was_answered_again_and_again(self) -> None:
        sightings = LastSeen()
        saw(sightings, "a")
        assert [tell(sightings, beat, beat) for beat in (1, 2, 3)] == [
            [("a", 1000)],
            [("a", 2000)],
            [("a", 3000)],
        ]

    def test_a_device_that_returns_after_a_report_is_reported_again(self) -> None:
        sightings = LastSeen()
        saw(sightings, "a", 1.0)
        tell(sightings, 1, 2.0)
        saw(sightings, "a", 3.0)
        sightings.acknowledge(1)
        assert tell(sightings, 2, 4.0) == [("a", 1000)]

    def test_a_device_that_connects_often_is_reported_once(self) -> None:
        sightings = LastSeen()
        for at in range(10):
            saw(sightings, "a", at)
        assert tell(sightings, 1, 9.0) == [("a", 0)]

    def test_the_use_of_a_token_is_shown_beside_a_connect_without(self) -> None:
        sightings = LastSeen()
        saw(sightings, "a", 1.0, "device-token")
        saw(sightings, "a", 2.0, "token")
        assert len(sightings.take_unsent(1, 2.0)) == 2


class TestBounds:
    def test_a_heartbeat_reports_a_limited_number_oldest_first(self) -> None:
        sightings = LastSeen(seen_per_beat=2)
        for device in ("a", "b", "c", "a"):
            saw(sightings, device)
        behind = [sightings.behind]
        assert [device for device, _age in tell(sightings, 1)] == ["b", "c"]
        sightings.acknowledge(1)
        behind.append(sightings.behind)
        assert behind == [True, False]
        assert [device for device, _age in tell(sightings, 2)] == ["a"]

    def test_the_oldest_are_dropped_beyond_the_limit(self) -> None:
        sightings = LastSeen(limit=2)
        for device in ("a", "b", "c"):
            saw(sightings, device)
        assert [device for device, _age in tell(sightings, 1)] == ["b", "c"]

    def test_the_memory_of_unanswered_heartbeats_is_bounded(self) -> None:
        sightings = LastSeen()
        saw(sightings, "a")
        for beat in range(3 * REPORTED_LIMIT_HEARTBEATS):
            tell(sightings, beat)
        assert len(sightings._reported) == REPORTED_LIMIT_HEARTBEATS


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("saw"), st.sampled_from("abcd")),
            st.tuples(st.just("answered"), st.integers(0, 30)),
            st.tuples(st.just("lost"), st.just("")),
        ),
        max_size=40,
    )
)
def test_nothing_is_lost(steps: list[tuple[str, str | int]]) -> None:
    """Whichever heartbeats arrive and are answered, approval learns every last-seen time."""
    sightings = LastSeen(seen_per_beat=2)
    seen: dict[str, int] = {}
    known: dict[str, int] = {}
    on_the_way: dict[int, Told] = {}

    def arrives(beat: int) -> None:
        for device, age in on_the_way.get(beat, ()):
            known[device] = max(known.get(device, 0), beat - age // 1000)
        sightings.acknowledge(beat)

    now = 0
    for label, given_to in steps:
        now += 1
        if label == "saw":
            saw(sightings, str(given_to), now)
            seen[str(given_to)] = now
        on_the_way[now] = tell(sightings, now, now)
        if label == "answered" and int(given_to) in on_the_way:
            arrives(int(given_to))
    while len(sightings):
        now += 1
        on_the_way[now] = tell(sightings, now, now)
        arrives(now)
    assert known == seen
