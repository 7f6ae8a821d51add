"""Loop time is divided among sockets: what was begun is finished first, and nobody starves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.server.loop_budget import (
    HANDSHAKE_WAIT_SECONDS,
    HANDSHAKES_SECONDS,
    HANDSHAKES_WAITING_MAX,
    RENEWAL_SECONDS,
    SESSIONS_LOW_SECONDS,
    SESSIONS_SECONDS,
    TRICKLE_SECONDS,
    UPGRADES_SECONDS,
    WAITING_SECONDS,
    Lane,
    LoopBudget,
)
from shared.server.upgrade_limit import (
    BURST_SECONDS,
    BURST_WAIT_SECONDS,
    LASTING_WAIT_SECONDS,
    UPGRADES_FIRST,
    WAIT_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = {
    Lane.SESSIONS: SESSIONS_SECONDS,
    Lane.HANDSHAKES: HANDSHAKES_SECONDS,
    Lane.UPGRADES: UPGRADES_SECONDS,
}
SLICE_SECONDS = 0.001


class Loop:
    """A loop and a clock that only work advances."""

    def __init__(self) -> None:
        self.now = 100.0
        self.scheduled: list[Callable[[], None]] = []
        self.budget = LoopBudget(self.scheduled.append, lambda: self.now)
        self.served: list[Socket] = []

    def turn(self) -> list[str]:
        """Run one iteration; return the names of the sockets that were served."""
        self.served.clear()
        scheduled = self.scheduled[:]
        self.scheduled.clear()
        assert len(scheduled) == len(set(scheduled)), "one call for all sockets"
        for run in scheduled:
            run()
        return [socket.name for socket in self.served]

    def use_up(self, lane: Lane) -> None:
        """Process at once until the lane has no time left."""
        while began := self.budget.begin(lane):
            self.now += SLICE_SECONDS
            self.budget.end(lane, began)

    def wait(self, lane: Lane, *names: str, slices: int = 1) -> list[Socket]:
        sockets = [Socket(self, name, slices) for name in names]
        for socket in sockets:
            self.budget.wait(lane, socket)
        return sockets


class Socket:
    def __init__(self, loop: Loop, name: str, slices: int) -> None:
        self._loop = loop
        self.name = name
        self.slices = slices
        self.overdue = False

    def run_slice(self, *, overdue: bool) -> bool:
        self.overdue = overdue
        self._loop.now += SLICE_SECONDS
        self._loop.served.append(self)
        self.slices -= 1
        return self.slices > 0


@pytest.fixture
def loop() -> Loop:
    return Loop()


def many(count: int) -> list[str]:
    return [str(number) for number in range(count)]


class TestAtOnce:
    @pytest.mark.parametrize("lane", Lane)
    def test_a_lane_has_its_time_and_no_more(self, loop: Loop, lane: Lane) -> None:
        began = loop.now
        loop.use_up(lane)
        assert loop.now - began == pytest.approx(SECONDS[lane], abs=SLICE_SECONDS)
        renewals = 1 if lane is Lane.SESSIONS else 0
        assert len(loop.scheduled) == renewals, "nothing else is scheduled while nothing waits"

    def test_a_lane_does_not_use_the_time_of_another(self, loop: Loop) -> None:
        loop.use_up(Lane.UPGRADES)
        assert loop.budget.begin(Lane.HANDSHAKES)
        assert loop.budget.begin(Lane.SESSIONS)

    def test_its_time_is_renewed(self, loop: Loop) -> None:
        loop.use_up(Lane.SESSIONS)
        loop.now += RENEWAL_SECONDS
        assert loop.budget.begin(Lane.SESSIONS)

    def test_sessions_have_enough_time_at_the_beginning_of_every_iteration(
        self, loop: Loop
    ) -> None:
        for _ in range(round(3 * RENEWAL_SECONDS / SLICE_SECONDS)):
            began = loop.budget.begin(Lane.SESSIONS)
            assert began, "no frame has to wait when iterations are short"
            loop.now += SLICE_SECONDS
            loop.budget.end(Lane.SESSIONS, began)
            loop.turn()
        before = loop.now
        loop.use_up(Lane.SESSIONS)
        assert loop.now - before >= SESSIONS_LOW_SECONDS

    def test_sessions_that_are_held_or_wait_are_not_renewed(self, loop: Loop) -> None:
        loop.use_up(Lane.SESSIONS)
        loop.budget.hold(Lane.SESSIONS)
        loop.turn()
        assert not loop.budget.begin(Lane.SESSIONS)
        loop.budget.release(Lane.SESSIONS)
        loop.wait(Lane.SESSIONS, *many(50))
        loop.use_up(Lane.SESSIONS)
        loop.turn()
        assert not loop.budget.begin(Lane.SESSIONS)

    def test_nothing_overtakes_what_waits(self, loop: Loop) -> None:
        loop.wait(Lane.SESSIONS, *many(50))
        loop.turn()
        loop.now += RENEWAL_SECONDS
        assert not loop.budget.begin(Lane.SESSIONS)


class TestKeys:
    def test_addresses_take_turns_and_each_serves_its_oldest(self, loop: Loop) -> None:
        for name in ("a1", "a2", "a3", "b1", "c1", "b2"):
            loop.budget.wait(Lane.HANDSHAKES, Socket(loop, name, 1), name[0])
        assert loop.turn() == ["a1", "b1", "c1", "a2", "b2", "a3"]

    def test_one_that_left_loses_its_turn(self, loop: Loop) -> None:
        sockets = {name: Socket(loop, name, 1) for name in ("a1", "b1", "a2")}
        for name, socket in sockets.items():
            loop.budget.wait(Lane.HANDSHAKES, socket, name[0])
        loop.budget.remove(sockets["a1"])
        loop.budget.remove(sockets["b1"])
        assert loop.turn() == ["a2"]
        assert loop.budget.waiting(Lane.HANDSHAKES) == 0

    def test_the_overdue_of_every_address_come_first(self, loop: Loop) -> None:
        loop.budget.hold(Lane.HANDSHAKES)
        for name in ("a1", "a2", "a3"):
            loop.budget.wait(Lane.HANDSHAKES, Socket(loop, name, 1), name[0])
        loop.now += HANDSHAKE_WAIT_SECONDS + 0.1
        loop.budget.wait(Lane.HANDSHAKES, Socket(loop, "b1", 1), "b")
        loop.budget.sweep()
        assert loop.turn() == ["a1", "a2", "a3"]
        assert all(socket.overdue for socket in loop.served)


class TestTurns:
    def test_a_turn_is_bounded_and_the_next_goes_on(self, loop: Loop) -> None:
        loop.wait(Lane.SESSIONS, *many(12))
        assert loop.turn() == many(12)[:5]
        assert loop.turn() == many(12)[5:10]
        assert loop.turn() == many(12)[10:]
        assert loop.turn() == []
        assert loop.budget.begin(Lane.SESSIONS)

    def test_sessions_come_before_handshakes_and_those_before_upgrades(self, loop: Loop) -> None:
        loop.wait(Lane.UPGRADES, "upgrade")
        loop.wait(Lane.HANDSHAKES, "handshake")
        loop.wait(Lane.SESSIONS, "session")
        assert loop.turn() == ["session", "handshake", "upgrade"]

    def test_upgrades_only_trickle_while_handshakes_wait(self, loop: Loop) -> None:
        handshakes = round(WAITING_SECONDS[Lane.HANDSHAKES] / SLICE_SECONDS)
        loop.wait(Lane.HANDSHAKES, *["handshake"] * (handshakes + 5))
        assert not loop.budget.begin(Lane.UPGRADES)
        loop.wait(Lane.UPGRADES, *["upgrade"] * 45)
        first, second = loop.turn(), loop.turn()
        assert first.count("upgrade") == round(TRICKLE_SECONDS / SLICE_SECONDS)
        assert second.count("handshake") == 5
        assert second.count("upgrade") == round(WAITING_SECONDS[Lane.UPGRADES] / SLICE_SECONDS)

    def test_no_upgrade_is_begun_while_many_handshakes_wait(self, loop: Loop) -> None:
        """Handshakes that have begun must finish in time."""
        handshakes = round(WAITING_SECONDS[Lane.HANDSHAKES] / SLICE_SECONDS)
        loop.wait(Lane.HANDSHAKES, *["handshake"] * (HANDSHAKES_WAITING_MAX + handshakes + 1))
        loop.wait(Lane.UPGRADES, "upgrade")
        assert "upgrade" not in loop.turn()
        assert "upgrade" in loop.turn()

    def test_upgrades_behind_handshakes_that_are_held_do_not_keep_the_loop_busy(
        self, loop: Loop
    ) -> None:
        loop.budget.hold(Lane.HANDSHAKES)
        loop.wait(Lane.HANDSHAKES, *["handshake"] * (HANDSHAKES_WAITING_MAX + 1))
        loop.wait(Lane.UPGRADES, "upgrade")
        loop.turn()
        assert not loop.scheduled
        loop.budget.release(Lane.HANDSHAKES)
        assert {"handshake", "upgrade"} <= set(loop.turn())

    def test_upgrades_resume_once_held_handshakes_are_overdue(self, loop: Loop) -> None:
        loop.budget.hold(Lane.HANDSHAKES)
        loop.wait(Lane.HANDSHAKES, *["handshake"] * (HANDSHAKES_WAITING_MAX + 1))
        loop.wait(Lane.UPGRADES, "upgrade")
        loop.now += HANDSHAKE_WAIT_SECONDS + 0.1
        loop.budget.sweep()
        assert {"handshake", "upgrade"} <= set(loop.turn())

    def test_handshakes_that_repeatedly_send_a_little_do_not_stop_upgrades(
        self, loop: Loop
    ) -> None:
        sockets = loop.wait(Lane.HANDSHAKES, *["junk"] * 2 * HANDSHAKES_WAITING_MAX, slices=10**6)
        for socket in sockets:
            loop.budget.remove(socket)
            socket.slices = 1
            loop.budget.wait(Lane.HANDSHAKES, socket, is_first=False)
        loop.wait(Lane.UPGRADES, "upgrade")
        assert "upgrade" in loop.turn()

    def test_handshakes_that_keep_sending_do_not_stop_upgrades(self, loop: Loop) -> None:
        loop.wait(Lane.HANDSHAKES, *["junk"] * 2 * HANDSHAKES_WAITING_MAX, slices=100)
        loop.wait(Lane.UPGRADES, "upgrade")
        assert any("upgrade" in loop.turn() for _ in range(HANDSHAKES_WAITING_MAX))

    def test_a_socket_with_little_does_not_wait_for_those_with_much(self, loop: Loop) -> None:
        loop.wait(Lane.SESSIONS, *["junk"] * 5, slices=100)
        loop.turn()
        loop.wait(Lane.SESSIONS, "honest")
        assert loop.turn()[0] == "honest"

    def test_sockets_with_much_take_turns(self, loop: Loop) -> None:
        loop.wait(Lane.SESSIONS, *many(3), slices=100)
        assert loop.turn() + loop.turn() == [str(number % 3) for number in range(10)]

    def test_a_closed_socket_is_not_served(self, loop: Loop) -> None:
        first, _ = loop.wait(Lane.SESSIONS, "first", "second", slices=2)
        loop.turn()
        again, _ = loop.wait(Lane.UPGRADES, "again", "other")
        loop.budget.remove(first)
        loop.budget.remove(again)
        assert loop.turn() == ["other"]

    def test_an_error_does_not_stop_the_others(self, loop: Loop) -> None:
        class Broken(Socket):
            def run_slice(self, *, overdue: bool) -> bool:
                raise RuntimeError

        loop.budget.wait(Lane.SESSIONS, Broken(loop, "broken", 1))
        loop.wait(Lane.SESSIONS, "next")
        with pytest.raises(RuntimeError):
            loop.turn()
        assert loop.turn() == ["next"]


class TestHolding:
    def test_a_held_lane_waits_and_costs_no_turns(self, loop: Loop) -> None:
        loop.budget.hold(Lane.HANDSHAKES)
        assert not loop.budget.begin(Lane.HANDSHAKES)
        loop.wait(Lane.HANDSHAKES, "handshake")
        loop.wait(Lane.SESSIONS, "session")
        assert loop.turn() == ["session"]
        assert not loop.scheduled
        loop.budget.sweep()
        assert loop.turn() == []
        loop.budget.release(Lane.HANDSHAKES)
        assert loop.turn() == ["handshake"]
        assert loop.budget.begin(Lane.HANDSHAKES)

    def test_it_is_held_again_while_it_is_served(self, loop: Loop) -> None:
        class Filling(Socket):
            def run_slice(self, *, overdue: bool) -> bool:
                loop.budget.hold(Lane.HANDSHAKES)
                return super().run_slice(overdue=overdue)

        loop.budget.wait(Lane.HANDSHAKES, Filling(loop, "fills", 1))
        loop.wait(Lane.HANDSHAKES, "next")
        assert loop.turn() == ["fills"]
        assert loop.turn() == []

    def test_who_waited_too_long_in_a_held_lane_is_told(self, loop: Loop) -> None:
        loop.budget.hold(Lane.HANDSHAKES)
        (old,) = loop.wait(Lane.HANDSHAKES, "old")
        loop.now += HANDSHAKE_WAIT_SECONDS
        loop.wait(Lane.HANDSHAKES, "new")
        loop.now += SLICE_SECONDS
        loop.budget.sweep()
        assert loop.turn() == ["old"]
        assert old.overdue


class TestWaitingTooLong:
    def test_an_overdue_upgrade_is_turned_away(self, loop: Loop) -> None:
        (late,) = loop.wait(Lane.UPGRADES, "late")
        loop.now += WAIT_SECONDS + SLICE_SECONDS
        (new,) = loop.wait(Lane.UPGRADES, "new")
        loop.turn()
        assert (late.overdue, new.overdue) == (True, False)

    def test_sessions_are_never_overdue(self, loop: Loop) -> None:
        (session,) = loop.wait(Lane.SESSIONS, "session")
        loop.now += 1000.0
        loop.turn()
        assert not session.overdue

    def test_waiting_upgrades_are_counted(self, loop: Loop) -> None:
        sockets = loop.wait(Lane.UPGRADES, *many(10))
        assert loop.budget.upgrades() == (10, UPGRADES_FIRST)
        loop.budget.remove(sockets[0])
        assert loop.budget.upgrades() == (9, UPGRADES_FIRST)

    @pytest.mark.parametrize("per_second", [200, 500, 1500])
    def test_waiting_upgrades_are_limited_to_what_can_be_served_in_time(
        self, loop: Loop, per_second: int
    ) -> None:
        """More arrive than are served: they may wait as in a burst, and later as in an overload."""
        waits: list[float] = []

        class Timed(Socket):
            came = 0.0

            def run_slice(self, *, overdue: bool) -> bool:
                if not overdue:
                    waits.append(loop.now - self.came)
                    loop.now += 1 / per_second
                return False

        began = loop.now
        while loop.now - began < 4 * BURST_SECONDS:
            waiting, limit = loop.budget.upgrades()
            for _ in range(min(64, limit - waiting)):
                socket = Timed(loop, "upgrade", 1)
                socket.came = loop.now
                loop.budget.wait(Lane.UPGRADES, socket)
            loop.turn()
        assert BURST_WAIT_SECONDS / 2 < max(waits) < WAIT_SECONDS
        settled = waits[-per_second * 10 :]
        assert sum(settled) / len(settled) < 1.5 * LASTING_WAIT_SECONDS

    def test_impatient_clients_shorten_the_queue(self, loop: Loop) -> None:
        loop.wait(Lane.UPGRADES, *many(1000))
        while loop.turn():
            pass
        _, patient = loop.budget.upgrades()
        for socket in loop.wait(Lane.UPGRADES, *many(20)):
            loop.now += LASTING_WAIT_SECONDS
            loop.budget.remove(socket)
        _, impatient = loop.budget.upgrades()
        assert impatient < patient / 4

    def test_handshakes_take_no_room_of_upgrades(self, loop: Loop) -> None:
        loop.wait(Lane.HANDSHAKES, *many(100))
        assert loop.budget.upgrades() == (0, UPGRADES_FIRST)
