"""What the gateway remembers of devices that the upstream grants less than it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.relay.upstream import pairing as module
from services.gateway.relay.upstream.pairing import (
    GRANTED_LESS_LIMIT,
    GRANTED_LESS_SECONDS,
    UpstreamPairing,
)
from services.gateway.relay.upstream.upstream import Upstream, UpstreamAddress
from tests.support.loop_budget import loop_budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clock import FakeClock


class Calls:
    """Takes the place of UpstreamCall: records each call, and answers that nothing is pending."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self._done: list[Callable[[Any], None]] = []

    def begin(
        self,
        _upstream: Upstream,
        _version: str,
        method: str,
        _params: dict[str, Any],
        done: Callable[[Any], None],
    ) -> Calls:
        self.methods.append(method)
        self._done.append(done)
        return self

    def answer(self) -> None:
        self._done.pop()({"pending": []})


class Case:
    """A pairing whose upstream has no requests."""

    def __init__(self, clock: FakeClock, calls: Calls) -> None:
        address = UpstreamAddress.parse("ws://openclaw:18789")
        upstream = Upstream(address, ["s" * 32], clock, loop_budget())
        self.pairing = UpstreamPairing(upstream, clock, "1")
        self.calls = calls

    def look_up(self, device_id: str) -> None:
        """Ask for a request of the device; there is none."""
        assert self.pairing.approve_pending(device_id, lambda _request: True, lambda: None)
        self.calls.answer()

    def remembers(self, device_id: str) -> bool:
        return self.pairing.is_granted_less(device_id)


@pytest.fixture
def case(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Case:
    calls = Calls()
    monkeypatch.setattr(module, "UpstreamCall", calls.begin)
    return Case(clock, calls)


def test_it_is_remembered_for_a_while_only(case: Case, clock: FakeClock) -> None:
    case.look_up("one")
    assert case.remembers("one")
    assert not case.remembers("two")
    clock.advance(GRANTED_LESS_SECONDS - 1)
    case.look_up("two")
    assert case.remembers("one")
    clock.advance(1)
    assert not case.remembers("one")
    assert case.remembers("two")


def test_a_newer_answer_counts_from_its_own_time(case: Case, clock: FakeClock) -> None:
    case.look_up("one")
    case.look_up("two")
    clock.advance(GRANTED_LESS_SECONDS / 2)
    case.look_up("one")
    clock.advance(GRANTED_LESS_SECONDS / 2)
    case.pairing.sweep(clock.monotonic())
    assert case.remembers("one")
    assert list(case.pairing._granted_less) == ["one"], "what is over is forgotten"


def test_no_more_than_a_number_is_remembered(case: Case) -> None:
    for number in range(GRANTED_LESS_LIMIT + 1):
        case.look_up(f"device-{number}")
    assert len(case.pairing._granted_less) == GRANTED_LESS_LIMIT
    assert not case.remembers("device-0")
    assert case.remembers(f"device-{GRANTED_LESS_LIMIT}")
    assert set(case.calls.methods) == {"device.pair.list"}
