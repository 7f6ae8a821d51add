"""Refusals are kept within limits and reported until a heartbeat with them is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.replication.recent_refusals import (
    REFUSALS_LIMIT_ENTRIES,
    REFUSALS_PER_ADDRESS_ENTRIES,
    REFUSALS_PER_BEAT_ENTRIES,
    RecentRefusals,
)
from shared.protocol import refusals
from shared.rpc.messages import (
    HeartbeatQuestion,
    encode,
)
from tests.unit.gateway.replication.refusals_case import (
    NOW,
    STALE,
    Attempt,
    device,
    note,
    reported,
)

if TYPE_CHECKING:
    from shared.protocol.refusals import Refusal

BEAT_LIMIT_BYTES = 100_000
"""The maximum size of one heartbeat's report, with the longest texts."""


class TestReporting:
    def test_until_it_was_answered_again_and_again_as_the_same_run(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1)))
        recent.report(1, 0.0)
        note(recent, Attempt(device(1)))
        (report,) = recent.report(2, 0.0)
        assert (report.number, report.count, report.confirmed) == (1, 2, 0)

    def test_once_it_was_answered_never_again(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1)))
        recent.report(1, 0.0)
        recent.answered(1)
        assert recent.report(2, 0.0) == []
        assert len(recent) == 0

    def test_what_came_after_a_report_stays_and_says_what_is_known_of_it(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1)))
        recent.report(1, 0.0)
        note(recent, Attempt(device(1)))
        recent.report(2, 0.0)
        recent.answered(1)
        (report,) = recent.report(3, 0.0)
        assert (report.number, report.count, report.confirmed) == (1, 2, 1)
        recent.answered(2)
        assert recent.report(4, 0.0) == []

    def test_another_reason_after_a_report_counts_as_unreported(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1)))
        recent.report(1, 0.0)
        note(recent, Attempt(device(1)), refusals.SIGNATURE_INVALID)
        recent.answered(1)
        (report,) = recent.report(2, 0.0)
        assert (report.reason, report.confirmed) == ("device-signature", 0)

    def test_addresses_are_reported_in_turn(self) -> None:
        recent = RecentRefusals(per_beat=4)
        for number in range(10):
            note(recent, Attempt(device(number)), address="192.0.2.1")
        note(recent, Attempt(device(99)), address="192.0.2.2")
        received = [int(item.device_id, 16) for item in recent.report(1, 0.0)]
        assert received == [0, 99, 1, 2]


class TestBounds:
    def test_a_flood_of_invented_devices_displaces_only_its_own(self) -> None:
        recent = RecentRefusals()
        for number in range(REFUSALS_PER_ADDRESS_ENTRIES):
            note(recent, Attempt(device(number)), address="192.0.2.1")
        for number in range(10 * REFUSALS_LIMIT_ENTRIES):
            note(recent, Attempt(device(10**6 + number)), address="192.0.2.2")
        assert len(recent) == 2 * REFUSALS_PER_ADDRESS_ENTRIES
        assert reported(recent, "192.0.2.1") == set(range(REFUSALS_PER_ADDRESS_ENTRIES))

    def test_an_ipv6_network_of_64_bits_is_one_address(self) -> None:
        recent = RecentRefusals()
        for number in range(1000):
            note(recent, Attempt(device(number)), address=f"2001:db8::{number:x}")
        assert len(recent) == REFUSALS_PER_ADDRESS_ENTRIES

    def test_a_flood_from_many_addresses_displaces_those_that_hold_most(self) -> None:
        recent = RecentRefusals(limit=100, per_address=8)
        note(recent, Attempt(device(1), proven=True), address="192.0.2.1")
        for number in range(10_000):
            address = f"10.0.{number % 50}.1"
            note(recent, Attempt(device(10**6 + number)), address=address)
        assert len(recent) == 100
        assert reported(recent, "192.0.2.1") == {1}

    def test_a_heartbeat_never_exceeds_its_size_limit(self) -> None:
        recent = RecentRefusals()
        long = refusals.invalid_params(["\U0001f511" * 1000], 4)
        for number in range(3 * REFUSALS_LIMIT_ENTRIES):
            who = Attempt(device(number), name="\U0001f511" * 128)
            note(recent, who, long, address=f"10.1.{number // 250}.{number % 250}")
        assert len(recent) == REFUSALS_LIMIT_ENTRIES
        reports = recent.report(1, 0.0)
        assert len(reports) == REFUSALS_PER_BEAT_ENTRIES
        question = HeartbeatQuestion(1, NOW, True, 0, 0, refused=reports)
        assert len(encode(question)) < BEAT_LIMIT_BYTES

    def test_a_storm_is_reported_in_full_once_it_is_over(self) -> None:
        recent = RecentRefusals(limit=40, per_address=4, per_beat=7)
        for number in range(1000):
            note(recent, Attempt(device(number)), address=f"10.0.0.{number % 20}")
        count = 0
        for heartbeat_id in range(1, 7):
            count += len(recent.report(heartbeat_id, 0.0))
            recent.answered(heartbeat_id)
        assert (count, len(recent)) == (40, 0)

    @given(
        steps=st.lists(
            st.tuples(
                st.integers(0, 6),
                st.integers(0, 9),
                st.sampled_from([STALE, refusals.SIGNATURE_INVALID, refusals.INVALID_ROLE]),
                st.booleans(),
                st.sampled_from(["note", "note", "note", "report", "answered", "late"]),
            ),
            max_size=200,
        )
    )
    @settings(max_examples=300)
    def test_bounds_hold_for_any_sequence(
        self, steps: list[tuple[int, int, Refusal, bool, str]]
    ) -> None:
        recent = RecentRefusals(limit=12, per_address=4, per_beat=5)
        heartbeat_id = 0
        for address, number, refusal, proven, step in steps:
            if step == "note":
                who = Attempt(device(number) if number else "", proven=proven)
                note(recent, who, refusal, address=f"10.0.0.{address}")
                key = (device(number) if number else "", proven and number > 0)
                found = recent._entries[f"10.0.0.{address}"]
                assert any((item.device_id, item.proven) == key for item in found.values()) or (
                    len(recent) == 12
                ), "the newest is kept, unless its address holds most"
            elif step == "report":
                heartbeat_id += 1
                assert len(recent.report(heartbeat_id, 0.0)) <= 5
            else:
                recent.answered(heartbeat_id if step == "answered" else heartbeat_id - 1)
            held = recent._entries
            assert len(recent) == sum(map(len, held.values())) <= 12
            assert all(0 < len(entries) <= 4 for entries in held.values())
            assert [set(group) for group in recent._holders] == [
                {item for item in held if len(held[item]) == count} for count in range(5)
            ]
            for entries in held.values():
                assert all(0 <= entry.confirmed < entry.count for entry in entries.values())
