from __future__ import annotations

import pytest

from tools.load.command import read_command
from tools.load.options import UsageError
from tools.load.plan import Drop, Phase, Scenario

AWAY = ["--url", "wss://gateway.example", "--approval-url", "https://approval.example"]


class TestDefaults:
    def test_without_words_it_is_a_closed_loop_on_a_stack_of_its_own(self) -> None:
        plan = read_command([])
        assert plan.scenario is Scenario.CLOSED
        assert plan.phases == (
            Phase("warm-up", 1, 64, counted=False),
            Phase("closed", 10, 64),
        )
        assert (plan.url, plan.devices, plan.sources, plan.pace) == ("", 256, 16, None)

    def test_options_alone_are_for_the_closed_loop(self) -> None:
        assert read_command(["--seconds", "2"]).phases[-1].seconds == 2

    @pytest.mark.parametrize("scenario", list(Scenario))
    def test_every_scenario_has_its_own(self, scenario: Scenario) -> None:
        plan = read_command([scenario])
        assert plan.scenario is scenario
        assert bool(plan.phases) != bool(plan.connections)


class TestScenarios:
    def test_open(self) -> None:
        phase = read_command(["open", "--rate", "250"]).phases[-1]
        assert (phase.rate, phase.is_open) == (250, True)

    def test_ramp(self) -> None:
        plan = read_command(["ramp", "--from", "10", "--to", "30", "--step", "10"])
        assert [phase.rate for phase in plan.phases] == [10, 20, 30]

    def test_an_open_loop_comes_from_many_addresses(self) -> None:
        plan = read_command(["open"])
        assert plan.phases[-1].in_flight <= 32 * plan.sources

    def test_many_in_flight_come_from_many_addresses(self) -> None:
        assert read_command(["closed", "--in-flight", "512"]).sources == 64
        assert read_command(["closed", "--in-flight", "512", "--sources", "1"]).sources == 1

    def test_storm(self) -> None:
        plan = read_command(["storm", "--connections", "9", "--drop", "restart", "--jitter", "3"])
        assert (plan.connections, plan.drop, plan.jitter) == (9, Drop.RESTART, 3)

    def test_revoke_takes_one_device_or_one_for_each_connection(self) -> None:
        assert read_command(["revoke", "--connections", "9"]).devices == 1
        assert read_command(["revoke", "--connections", "9", "--each"]).devices == 9

    def test_crowds_stay_below_the_limit_of_one_address(self) -> None:
        plan = read_command(["refusals"])
        assert plan.devices < 50
        assert not plan.approved


class TestTargetsThatAreNotThisMachine:
    def test_want_a_yes(self) -> None:
        with pytest.raises(UsageError, match="--remote"):
            read_command(AWAY)

    def test_are_paced(self) -> None:
        plan = read_command([*AWAY, "--remote"])
        assert plan.pace == 20
        assert {phase.rate for phase in plan.phases} == {20}
        assert plan.phases[-1].in_flight == 16

    @pytest.mark.parametrize(
        "words",
        [
            ["open", "--rate", "1000"],
            ["closed", "--seconds", "600"],
            ["idle", "--connections", "10000"],
        ],
    )
    def test_are_bounded(self, words: list[str]) -> None:
        with pytest.raises(UsageError, match="--allow-"):
            read_command([*words, *AWAY, "--remote"])

    def test_bounds_can_be_raised(self) -> None:
        plan = read_command(["open", "--rate", "90", *AWAY, "--remote", "--allow-rate", "100"])
        assert plan.phases[-1].rate == 90

    def test_are_not_spoken_to_in_the_clear(self) -> None:
        with pytest.raises(UsageError, match="wss://"):
            read_command(["--url", "ws://gateway.example", "--remote"])


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["open", "--rate", "0"],
        ["closed", "--in-flight", "x"],
        ["closed", "--url", "ftp://127.0.0.1:1"],
        ["storm", "--drop", "restart", "--url", "ws://127.0.0.1:1"],
    ],
)
def test_what_makes_no_plan(words: list[str]) -> None:
    with pytest.raises(UsageError):
        read_command(words)
