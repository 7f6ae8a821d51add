"""The simulated envelope accepts and rejects what the real one does."""

from __future__ import annotations

import pytest

from shared.bus.channels import EVENTS, inbox_channel
from shared.bus.envelope import VERSION, Envelope, Opened
from shared.bus.errors import Rejected
from tests.simulation.services.seal import SimulatedEnvelope

SECRETS = ("a secret of the bus, long enough for this",)
INBOX = inbox_channel("b")


@pytest.mark.parametrize("kind", [Envelope, SimulatedEnvelope])
class TestBoth:
    def test_a_message_is_taken_once(self, kind: type[Envelope]) -> None:
        one, other = kind(SECRETS, "a"), kind(SECRETS, "b")
        first, second = one.seal(INBOX, b"1"), one.seal(INBOX, b"2")
        assert other.open(INBOX, second) == Opened("a", VERSION, 2, b"2")
        assert other.open(INBOX, first) == Opened("a", VERSION, 1, b"1")
        for again in (first, second):
            with pytest.raises(Rejected, match="replayed"):
                other.open(INBOX, again)

    def test_another_channels_message_is_refused(self, kind: type[Envelope]) -> None:
        one, other = kind(SECRETS, "a"), kind(SECRETS, "b")
        with pytest.raises(Rejected, match="unsealed"):
            other.open(INBOX, one.seal(EVENTS, b"1"))

    def test_its_own_message_counts_only_as_an_event(self, kind: type[Envelope]) -> None:
        entry = kind(SECRETS, "a")
        assert entry.open(EVENTS, entry.seal(EVENTS, b"1")).sender == "a"
        with pytest.raises(Rejected, match="self"):
            entry.open(inbox_channel("a"), entry.seal(inbox_channel("a"), b"2"))

    def test_a_message_that_is_too_large_is_not_sealed(self, kind: type[Envelope]) -> None:
        with pytest.raises(Rejected, match="oversized"):
            kind(SECRETS, "a").seal(EVENTS, bytes(4 * 1024 * 1024))
