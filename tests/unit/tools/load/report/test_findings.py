from __future__ import annotations

import pytest

from tests.support.load_runs import ADMITTED, churned, held, soaked
from tools.load.client.verdicts import Kind, Outcome
from tools.load.plan import Plan, Scenario
from tools.load.report.findings import findings
from tools.load.server.leftovers import Leftover
from tools.load.server.processes import Watched
from tools.load.workers.messages import Ended

CLOSED = Plan(scenario=Scenario.CLOSED)
REFUSALS = Plan(scenario=Scenario.REFUSALS)


def removed(slot: int, code: int = 4001) -> Ended:
    return Ended(slot, 0, 102.0, code, "device removed")


class TestChurn:
    def test_a_churn_as_expected_has_no_findings(self) -> None:
        assert findings(CLOSED, churned(ADMITTED, ADMITTED)) == []
        assert findings(REFUSALS, churned(Outcome(Kind.REFUSED))) == []

    @pytest.mark.parametrize("kind", [Kind.WRONGLY_ADMITTED, Kind.WRONGLY_REFUSED])
    def test_one_wrong_outcome_among_many_fails_the_run(self, kind: Kind) -> None:
        assert len(findings(CLOSED, churned(*[ADMITTED] * 99, Outcome(kind)))) == 1

    @pytest.mark.parametrize("kind", [Kind.UNAVAILABLE, Kind.FAILED])
    def test_an_attempt_without_a_verdict_is_not_wrong(self, kind: Kind) -> None:
        assert findings(CLOSED, churned(ADMITTED, Outcome(kind, "x"))) == []

    def test_a_run_without_a_right_verdict_measured_nothing(self) -> None:
        assert "nothing was measured" in findings(CLOSED, churned(Outcome(Kind.FAILED)))[0]

    def test_a_wrong_verdict_counts_while_warming_up(self) -> None:
        run = churned(Outcome(Kind.WRONGLY_ADMITTED), ADMITTED)
        run.recording.phases[0].counted = False
        assert "unapproved devices" in findings(CLOSED, run)[0]


class TestHolding:
    def test_holding_as_expected_has_no_findings(self) -> None:
        assert findings(*held(Scenario.IDLE, 10)) == []

    def test_connections_that_did_not_open_fail_the_run(self) -> None:
        assert findings(*held(Scenario.IDLE, 7)) == ["3 of 10 connections did not open"]

    def test_connections_that_ended_fail_the_run(self) -> None:
        plan, run = held(Scenario.IDLE, 10)
        run.lost = 2
        assert findings(plan, run) == ["2 connections ended unexpectedly"]


class TestStorm:
    def test_a_storm_is_fine_when_all_are_back(self) -> None:
        plan, run = held(Scenario.STORM, 10)
        run.dropped = 101.0
        assert findings(plan, run) == []

    def test_connections_that_did_not_come_back_fail_the_run(self) -> None:
        plan, run = held(Scenario.STORM, 10)
        run.dropped, run.held = 101.0, 6
        assert findings(plan, run) == ["4 connections did not come back"]

    def test_a_storm_without_a_drop_fails_the_run(self) -> None:
        assert "no storm" in findings(*held(Scenario.STORM, 10))[0]


class TestRevoke:
    def test_a_revocation_is_fine_when_all_are_closed(self) -> None:
        assert findings(*held(Scenario.REVOKE, 10, [removed(n) for n in range(10)])) == []

    def test_a_connection_that_stayed_open_fails_the_run(self) -> None:
        found = findings(*held(Scenario.REVOKE, 10, [removed(n) for n in range(9)]))
        assert found == ["1 connections of revoked devices stayed open"]

    def test_another_close_code_fails_the_run(self) -> None:
        ended = [removed(n, 4001 if n else 1013) for n in range(10)]
        found = findings(*held(Scenario.REVOKE, 10, ended))
        assert found == ["1 were not closed with code 4001"]


class TestSoak:
    def test_a_soak_that_leaves_nothing_over_is_fine(self) -> None:
        assert findings(*soaked()) == []

    @pytest.mark.parametrize("description", ["descriptors", "tasks"])
    def test_one_left_over_fails_the_run(self, description: str) -> None:
        plan, run = soaked()
        run.remains.append(Leftover("approval", description, 20, 21, left=1))
        assert findings(plan, run) == [f"1 {description} of approval are left over"]

    def test_what_can_no_longer_be_observed_fails_the_run(self) -> None:
        plan, run = soaked()
        run.remains.append(Leftover("approval", "tasks", 6, None, left=0))
        (found,) = findings(plan, run)
        assert found == "tasks of approval could no longer be observed after the load"

    @pytest.mark.parametrize(
        ("megabytes", "fine"),
        [
            pytest.param((100, 100, 100, 100, 100, 104.9), True, id="a-little"),
            pytest.param((100, 100, 100, 100, 100, 105), False, id="five-per-cent"),
            pytest.param((20, 100, 100, 100, 100, 100), True, id="only-in-the-first-minute"),
            pytest.param((100, 100, 90, 80, 70, 60), True, id="less"),
        ],
    )
    def test_memory_may_grow_by_less_than_five_per_cent_after_the_first_minute(
        self, megabytes: tuple[float, ...], *, fine: bool
    ) -> None:
        found = findings(*soaked(megabytes=megabytes))
        messages = [
            "memory of gateway grew by 5.0 % since the first minute, but must stay below 5 %"
        ]
        assert found == ([] if fine else messages)

    def test_memory_of_redis_is_not_checked(self) -> None:
        plan, run = soaked(megabytes=(10, 10, 20))
        run.watch.watched[0] = Watched("redis", 7)
        assert findings(plan, run) == []

    def test_memory_is_not_checked_in_a_short_run(self) -> None:
        assert findings(*soaked(299, megabytes=(100, 100, 150))) == []
