"""Which page of the pending requests is listed, and what a search finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from services.approval.domain.listing import (
    ADDRESSES_LIMIT,
    SEVERAL_REQUESTS,
    PageCursor,
    WantedRequests,
    finds_device,
    part_of_requests,
    read_position,
    write_position,
)
from services.approval.domain.records import Identity, Metadata, Pairing, Pending

WANTED = WantedRequests(limit=100)


def request(number: int, address: str = "192.0.2.1", **about: str) -> tuple[str, Pending, str]:
    """Return a request that was made at this moment."""
    metadata = Metadata("cli", "cli", "linux", address=address, **about)
    made = Pending(
        f"r{number}", "", "operator", ("operator",), (), metadata, address, number, number
    )
    return f"device-{number}", made, ""


def listed(found: list[tuple[str, Pending, str]], **wanted: Any) -> list[str]:
    """Return the ids that are listed."""
    part = part_of_requests(found, replace(WANTED, **wanted))
    return [found[place][1].request_id for place in part.places]


class TestPositions:
    def test_one_that_was_given_out_is_read_back(self) -> None:
        position = PageCursor(1_795_328_618_962, "220dd984-79b3-4860-a084-c16f321f9dec")
        assert read_position(write_position(position)) == position

    @pytest.mark.parametrize("text", ["", ".", "5", "5.", ".a", "x.a", "-5.a", "\u0665.a"])
    def test_a_malformed_position_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="position"):
            read_position(text)


class TestParts:
    def test_the_newest_are_first_and_the_next_part_goes_on(self) -> None:
        found = [request(number) for number in (2, 5, 1, 4, 3)]
        part = part_of_requests(found, replace(WANTED, limit=2))
        assert [found[place][1].request_id for place in part.places] == ["r5", "r4"]
        assert (part.total, part.following) == (5, PageCursor(4, "r4"))
        assert listed(found, limit=2, after=part.following) == ["r3", "r2"]
        last = part_of_requests(found, replace(WANTED, limit=2, after=PageCursor(2, "r2")))
        assert ([found[place][1].request_id for place in last.places], last.following) == (
            ["r1"],
            None,
        )

    def test_what_comes_and_goes_between_two_parts_repeats_nothing(self) -> None:
        found = [request(number) for number in range(1, 7)]
        first = part_of_requests(found, replace(WANTED, limit=3))
        later = [item for item in found if item[1].request_id != "r4"] + [request(9)]
        assert listed(later, limit=3, after=first.following) == ["r3", "r2", "r1"]

    def test_an_address_takes_no_more_than_its_share(self) -> None:
        found = [request(number) for number in range(1, 8)] + [request(0, "198.51.100.7")]
        assert listed(found, limit=4, per_address=2) == ["r7", "r6", "r0"]
        assert listed(found, limit=4, per_address=2, keep=frozenset({"r1", "r9"})) == [
            "r7",
            "r6",
            "r1",
            "r0",
        ]

    def test_what_is_kept_is_listed_whatever_else_is_wanted(self) -> None:
        found = [request(number) for number in range(1, 8)]
        keep = frozenset({"r1", "r7"})
        assert listed(found, limit=1, after=PageCursor(5, "r5"), keep=keep) == ["r7", "r4", "r1"]
        part = part_of_requests(found, replace(WANTED, search="nothing", keep=keep))
        assert (part.total, len(part.places)) == (0, 2)

    def test_addresses_with_several_requests_are_named_the_most_first(self) -> None:
        many = SEVERAL_REQUESTS + 1
        found = [request(number, "192.0.2.1") for number in range(SEVERAL_REQUESTS)]
        found += [request(100 + number, "192.0.2.2") for number in range(many)]
        found += [request(200 + number, "192.0.2.3") for number in range(SEVERAL_REQUESTS - 1)]
        part = part_of_requests(found, replace(WANTED, limit=1))
        assert part.addresses == [("192.0.2.2", many), ("192.0.2.1", SEVERAL_REQUESTS)]
        assert len(listed(found, address="192.0.2.3")) == SEVERAL_REQUESTS - 1

    def test_no_more_addresses_are_named_than_anybody_reads(self) -> None:
        found = [
            request(10 * at + number, f"192.0.2.{at}")
            for at in range(20)
            for number in range(SEVERAL_REQUESTS)
        ]
        assert len(part_of_requests(found, WANTED).addresses) == ADDRESSES_LIMIT


class TestSearch:
    @pytest.mark.parametrize(
        ("search", "found"),
        [
            *(("", True), ("  ", True), ("kitchen", True), ("KITCHEN mac", True), ("r1", True)),
            *(("192.0.2", True), ("linux cli", True), ("mac garage", False), ("device-1", True)),
        ],
    )
    def test_every_word_has_to_be_somewhere(self, search: str, found: bool) -> None:  # noqa: FBT001
        assert listed([request(1, display_name="Kitchen Mac")], search=search) == ["r1"] * found

    def test_a_device_is_found_by_its_label_and_by_its_rights(self) -> None:
        about = Metadata("cli", "cli", "linux", display_name="straße")
        pairing = Pairing(about, "operator", ("operator",), ("operator.admin",), {}, 0, 0)
        labelled = Pairing(
            about, "node", ("node",), (), {}, 0, 0, operator_label="Pi in the garage"
        )
        assert finds_device("STRASSE", "eb62", pairing)
        assert finds_device("operator.admin eb6", "eb62", pairing)
        assert finds_device("garage", "eb62", labelled)
        assert not finds_device("garage", "eb62", pairing)

    def test_a_device_is_found_by_all_that_it_says_it_is(self) -> None:
        about = Metadata("cli", "cli", "linux")
        others = (Identity("node", "node-host", "node", "darwin", "Mac", "box"),)
        pairing = Pairing(about, "operator", ("operator",), (), {}, 0, 0, others=others)
        assert finds_device("box darwin cli", "eb62", pairing)
        device_id, asked, label = request(1, display_name="Kitchen")
        asked = msgspec.structs.replace(asked, others=others)
        assert listed([(device_id, asked, label)], search="kitchen node-host") == ["r1"]
