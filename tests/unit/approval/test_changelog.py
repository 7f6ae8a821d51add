"""Positions in history: what came after one, and when that is unknown (R5)."""

from __future__ import annotations

import msgspec
import pytest

from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.records import AuditEntry
from services.approval.storage.changes.changelog import (
    Followed,
    UnreadableLog,
    changed_after,
    decision_of,
    decode_changes,
    decode_head,
    entry_of,
    followed,
)
from shared.rpc.messages import Changed, Position

LARGE = 1_000
Entry = tuple[bytes, dict[bytes, bytes]]


def tag(number: int) -> str:
    return f"tag-{number}"


def place(number: int) -> Position:
    return Position(number, tag(number)) if number else Position()


def audited(number: int) -> Entry:
    """Return an entry of the audit log as Redis returns it."""
    entry = AuditEntry("approved", f"device-{number}", "operator", at_ms=number)
    fields = {b"tag": tag(number).encode(), b"entry": msgspec.json.encode(entry)}
    return f"{number}-0".encode(), fields


def logged(number: int, device_id: str) -> Entry:
    """Return an entry of the change log as Redis returns it."""
    body = msgspec.msgpack.encode(Changed(place(number), "", device_id, "approved", at_ms=number))
    return f"{number}-0".encode(), {b"tag": tag(number).encode(), b"body": body}


def read_by_script(number: int) -> tuple[bytes, list[bytes]]:
    """Return an entry of the change log, about LARGE bytes, as a script returns it."""
    changed = Changed(place(number), "", "device", "requested", number, request=b"x" * LARGE)
    return f"{number}-0".encode(), [
        *(b"tag", tag(number).encode()),
        *(b"previous", tag(number - 1).encode()),
        *(b"body", msgspec.msgpack.encode(changed)),
    ]


def test_the_head_is_a_number_and_a_tag() -> None:
    assert decode_head(b"7:tag:7") == Position(7, "tag:7")
    assert decode_head(None) == Position()


class TestMissedChanges:
    """The changes in an answer to a heartbeat: no more than fit, so that it always arrives (R4)."""

    @pytest.mark.parametrize(
        ("max_bytes", "numbers"),
        [(10**6, [1, 2, 3, 4]), (2 * LARGE + 200, [1, 2]), (LARGE, [1]), (1, [1])],
    )
    def test_as_many_as_fit_and_always_one(self, max_bytes: int, numbers: list[int]) -> None:
        found = [read_by_script(number) for number in (1, 2, 3, 4)]
        received = decode_changes(found, max_bytes)
        assert [(item.change, item.previous_tag) for item in received] == [
            (place(number), tag(number - 1)) for number in numbers
        ]

    def test_none_where_none_was_missed(self) -> None:
        assert decode_changes([], 1) == []


def followed_in(
    since: Position, found: list[Entry], oldest: int | None, most: int = 10
) -> Followed:
    """Read history from a position; it is at 6, and the stream has these entries."""
    merged = [entry_of(*item) for item in found]
    return followed(since, place(6), merged, oldest=oldest, limit=most)


class TestFollowed:
    @pytest.mark.parametrize("since", [place(4), Position(4)], ids=["with its tag", "without"])
    def test_entries_after_a_position_are_returned(self, since: Position) -> None:
        received = followed_in(since, [audited(number) for number in (4, 5, 6)], oldest=1)
        assert [entry.id for entry in received.entries] == [5, 6]
        assert (received.at, received.lost) == (place(6), False)

    def test_reading_from_the_beginning_returns_all_entries(self) -> None:
        received = followed_in(Position(), [audited(1), audited(2)], oldest=1)
        assert [entry.id for entry in received.entries] == [1, 2]
        assert received.at == place(6)

    def test_no_more_than_requested_and_the_position_is_that_of_the_last(self) -> None:
        received = followed_in(place(3), [audited(4), audited(5), audited(6)], oldest=1, most=2)
        assert [entry.id for entry in received.entries] == [4, 5]
        assert received.at == place(5)

    def test_a_change_without_an_entry_of_its_own_is_a_place_like_any_other(self) -> None:
        received = followed_in(place(4), [audited(6)], oldest=2)
        assert ([entry.id for entry in received.entries], received.lost) == ([6], False)
        assert followed_in(place(5), [], oldest=2) == Followed([], place(6))

    @pytest.mark.parametrize(
        ("since", "found", "oldest"),
        [
            pytest.param(place(4), [audited(6)], 6, id="the log no longer reaches so far"),
            pytest.param(Position(), [audited(2)], 2, id="nor to the beginning"),
            pytest.param(place(4), [], None, id="the log was emptied"),
            pytest.param(Position(4, "another"), [audited(4), audited(5)], 1, id="another history"),
            pytest.param(place(9), [], 1, id="history went back"),
            pytest.param(place(9), [audited(9)], 1, id="the head went back, the log did not"),
        ],
    )
    def test_lost_if_it_cannot_be_reported(
        self, since: Position, found: list[Entry], oldest: int | None
    ) -> None:
        assert followed_in(since, found, oldest) == Followed([], place(6), lost=True)


class TestUnreadable:
    @pytest.mark.parametrize(
        "fields", [{}, {b"entry": b""}, {b"entry": b"[]"}, {b"entry": b"\xff"}]
    )
    def test_an_entry_of_the_audit_log_says_so_and_keeps_its_number(
        self, fields: dict[bytes, bytes]
    ) -> None:
        received = entry_of(b"7-0", fields).entry
        assert (received.id, received.action) == (7, "unreadable")

    @pytest.mark.parametrize("member", [b"", b"7:tag", b"7:tag\n{", b"x:tag\n{}", b"\xff"])
    def test_an_unreadable_decision_is_reported(self, member: bytes) -> None:
        assert decision_of(member).entry.action == "unreadable"

    @pytest.mark.parametrize(
        "fields", [[], [b"tag"], [b"body", b"x"], [b"tag", b"a", b"body", b""]]
    )
    def test_a_change_is_an_error_of_its_own(self, fields: list[bytes]) -> None:
        with pytest.raises(UnreadableLog):
            decode_changes([(b"1-0", fields)], 10)

    @pytest.mark.parametrize("head", [b"x", b"x:y", b"\xff:", b":"])
    def test_a_head_leaves_everything_unknown(self, head: bytes) -> None:
        with pytest.raises(StoreUnavailable):
            decode_head(head)


class TestChangedAfter:
    def test_each_changed_device_is_returned_once_with_the_position(self) -> None:
        found = [logged(3, "before"), logged(4, "a"), logged(5, "b"), logged(6, "a"), logged(7, "")]
        assert changed_after(place(3), found) == (place(7), ["a", "b"])

    def test_there_is_nothing_after_the_newest_change(self) -> None:
        assert changed_after(place(3), [logged(3, "before")]) == (place(3), [])
        assert changed_after(Position(), []) == (Position(), [])

    @pytest.mark.parametrize(
        ("since", "found"),
        [
            (place(3), []),
            (place(3), [logged(4, "a")]),
            (Position(3, "another"), [logged(3, "a")]),
            (Position(), [logged(2, "a")]),
        ],
    )
    def test_unavailable_if_it_is_unknown(self, since: Position, found: list[Entry]) -> None:
        with pytest.raises(StoreUnavailable):
            changed_after(since, found)
