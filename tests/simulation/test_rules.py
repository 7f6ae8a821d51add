"""Each rule is needed: its scenario passes with the real parts and fails without the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.simulation.mutants.rules import SOUND, WITHOUT
from tests.simulation.scenarios import admitting, applying, beating, changing
from tests.simulation.stage import play

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.stage import Stage

SCENARIOS: Final[dict[str, tuple[Callable[[Stage], None], str]]] = {
    "R1 echo": (beating.a_late_answer, "I1"),
    "R1 order": (beating.an_overtaken_answer, "I5"),
    "R2": (beating.a_demoted_master, "I1"),
    "R3": (beating.an_approval_left_behind, "progress"),
    "R4": (beating.far_behind, "I1"),
    "R5": (applying.news_of_two_histories, "I1"),
    "R5 calls": (applying.a_call_in_another_history, "I6"),
    "R6 memory": (admitting.a_revoke_overtakes, "I2"),
    "R6 history": (admitting.an_answer_of_a_forgotten_history, "I2"),
    "R7": (admitting.a_stopped_gateway_wakes, "I1"),
    "R8": (applying.a_trimmed_log, "I1"),
    "R8 floor": (applying.an_answer_from_before, "I1"),
    "R9 closes": (applying.a_rotated_token, "I1"),
    "R9 no wider": (applying.a_new_label, "I5"),
    "R10": (applying.news_above_the_head, "I4"),
    "R11 once": (changing.a_second_try, "I3"),
    "R11 in time": (changing.a_late_commit, "I3"),
    "R12": (changing.a_revoked_operator, "I6"),
    "R12 version": (changing.a_revoke_before_the_commit, "I6"),
    "R13": (changing.gone_before_it_was_answered, "I4"),
    "R14": (beating.a_silent_loss, "progress"),
}
OPTIONS: Final = {"R4": {"changes_limit": 1}}


@pytest.mark.parametrize("rule", SCENARIOS)
def test_the_scenario_passes(rule: str) -> None:
    scenario, _invariant = SCENARIOS[rule]
    broken, story = play(scenario, SOUND, **OPTIONS.get(rule, {}))
    assert not broken, story


@pytest.mark.parametrize("rule", SCENARIOS)
def test_it_breaks_without_the_rule(rule: str) -> None:
    scenario, invariant = SCENARIOS[rule]
    broken, story = play(scenario, WITHOUT[rule], **OPTIONS.get(rule, {}))
    assert broken == invariant, story
