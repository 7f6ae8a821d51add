"""Which events a change produces, and which changes produce none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.gateway.replication.events import broadcasts
from shared.protocol.events import numbered
from shared.rpc.messages import Changed, Position

AT_MS = 1_795_328_627_349
REQUEST = b'{"requestId":"r2","deviceId":"d"}'


def changed(kind: str, **more: Any) -> Changed:
    """Return a change of device `d`."""
    return Changed(Position(7, "tag"), "before", "d", kind, AT_MS, **more)


def events_for(change: Changed, protocol: int) -> list[tuple[str, Any]]:
    """Return names and payloads of the events for one protocol version."""
    found = broadcasts(change)
    assert {item.scope for item in found} <= {"operator.pairing"}
    return [(item.name, json.loads(item.payload)) for item in found if protocol in item.protocols]


def resolved(request_id: str, decision: str) -> tuple[str, Any]:
    """Return the event for the end of a request."""
    payload = {"requestId": request_id, "deviceId": "d", "decision": decision, "ts": AT_MS}
    return "device.pair.resolved", payload


@pytest.mark.parametrize("protocol", [4, 3])
class TestBothProtocols:
    @pytest.mark.parametrize("kind", ["approved", "rejected"])
    def test_a_decision_is_sent_in_both_protocols(self, protocol: int, kind: str) -> None:
        assert events_for(changed(kind, request_id="r1"), protocol) == [resolved("r1", kind)]

    def test_a_request_is_sent_in_both_protocols(self, protocol: int) -> None:
        change = changed("requested", request_id="r2", request=REQUEST)
        assert events_for(change, protocol) == [("device.pair.requested", json.loads(REQUEST))]

    @pytest.mark.parametrize(
        "kind",
        [
            *("removed", "rotated", "revoked", "expired", "displaced"),
            *("token-issued", "name-changed", "of a later release"),
        ],
    )
    def test_other_changes_send_no_event(self, protocol: int, kind: str) -> None:
        change = changed(kind, request_id="r1", closes=["*"], call_id="c")
        assert events_for(change, protocol) == []

    def test_a_request_of_an_earlier_release_has_too_little_data_to_be_shown(
        self, protocol: int
    ) -> None:
        assert events_for(changed("requested", request_id="r1"), protocol) == []


class TestSuperseded:
    CHANGE = changed("requested", request_id="r2", superseded_id="r1", request=REQUEST)

    def test_a_superseded_request_is_resolved_as_rejected_first(self) -> None:
        assert events_for(self.CHANGE, 4) == [
            resolved("r1", "rejected"),
            ("device.pair.requested", json.loads(REQUEST)),
        ]

    def test_a_request_superseded_by_an_approved_one_is_resolved(self) -> None:
        change = changed("approved", request_id="r2", superseded_id="r1")
        assert events_for(change, 4) == [resolved("r1", "rejected"), resolved("r2", "approved")]
        assert events_for(change, 3) == [resolved("r2", "approved")]

    def test_protocol_3_receives_only_the_new_request(self) -> None:
        assert events_for(self.CHANGE, 3) == [("device.pair.requested", json.loads(REQUEST))]


class TestRenamed:
    def test_a_rename_sends_a_changed_event(self) -> None:
        assert events_for(changed("renamed"), 4) == [("device.pair.changed", {})]

    def test_a_rename_sends_nothing_in_protocol_3(self) -> None:
        assert events_for(changed("renamed"), 3) == []


def test_an_event_has_the_frame_of_the_protocol() -> None:
    (broadcast,) = broadcasts(changed("approved", request_id="r1"))
    assert json.loads(numbered(broadcast.head(), 4)) == {
        "type": "event",
        "event": "device.pair.resolved",
        "payload": {"requestId": "r1", "deviceId": "d", "decision": "approved", "ts": AT_MS},
        "seq": 4,
    }
