"""Every refusal reason has a description, and its links resolve."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from services.approval import settings as approval
from services.approval.domain.refusal_reasons import REASONS, reason_of
from services.cli.doctor import causes
from services.gateway import settings as gateway
from shared.bus.errors import Reason
from shared.protocol import refusals
from shared.protocol.refusals import Refusal

ROOT = Path(__file__).parents[4]
NEVER_REPORTED = {"silent", "joining"}
"""Silent clients are closed, not refused; joining ones are admitted."""
ASKS = {"pairing-required", "unavailable"}
"""These are reported by their cause."""


def test_every_refusal_has_its_words() -> None:
    constants = {var.outcome for var in vars(refusals).values() if isinstance(var, Refusal)}
    made = {
        refusals.invalid_params(["x"], 4).outcome,
        refusals.protocol_mismatch(1, 2).outcome,
        refusals.origin_not_allowed("x").outcome,
        refusals.token_mismatch("", with_device=True).outcome,
        refusals.token_missing("").outcome,
        refusals.bootstrap_token_invalid(4).outcome,
        refusals.rate_limited(1).outcome,
        refusals.unavailable("x", "y", 1).outcome,
        refusals.upstream_protocol("", {}, None).outcome,
        refusals.starting(1, routine=True).outcome,
        refusals.starting(1, routine=False).outcome,
    }
    behind = {*refusals._PAIRING, *get_args(Reason), "pending-limit", "key-mismatch"}
    assert (constants | made | behind) - NEVER_REPORTED - ASKS == set(REASONS)


def test_every_function_that_makes_a_refusal_is_looked_at_above() -> None:
    source = (ROOT / "shared/protocol/refusals.py").read_text()
    public = set(re.findall(r"(?m)^def ([a-z]\w+)\([^)]*\) -> Refusal:", source))
    looked_at = set(re.findall(r"refusals\.([a-z]\w+)\(", Path(__file__).read_text()))
    assert public - looked_at == {"pairing_required"}


def test_the_words_fit_into_sentences() -> None:
    for code, item in REASONS.items():
        assert item.code == code
        assert re.fullmatch(r"[a-z][^.]*[^. ]", item.title), code
        assert re.fullmatch(r"[A-Z`].*.", item.remedy), code


def test_each_names_a_cause_of_the_doctor_or_none() -> None:
    named = {item.cause for item in REASONS.values()} - {""}
    assert named <= {cause.id for cause in causes.ALL}
    assert len(named) > 15


def test_settings_that_they_name_exist() -> None:
    settings = {setting.name for setting in (*gateway.ALL, *approval.ALL)}
    for item in REASONS.values():
        for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", item.remedy):
            assert name in settings, item.code


def test_a_code_of_another_release_is_shown_as_it_is() -> None:
    refused, undecided = (reason_of("a-new-one", undecided=item) for item in (False, True))
    assert refused.code == undecided.code == "a-new-one"
    assert refused.title != undecided.title
