"""The table of causes: complete, distinct, and reproduced by tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.approval import settings as approval
from services.cli.doctor import causes, openclaw_causes, upstream_causes
from services.cli.doctor.cause import Cause
from services.gateway import settings as gateway
from shared.upstream import PROBLEMS
from tests.unit.cli.fake_api import run

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[4]
PRODUCED = sorted((ROOT / "tests/e2e/doctor").glob("test_*.py"))
SETTINGS = {setting.name for setting in (*gateway.ALL, *approval.ALL)}


def test_each_has_its_own_name_and_says_everything() -> None:
    ids = [cause.id for cause in causes.ALL]
    assert len(set(ids)) == len(ids) >= 20
    for cause in causes.ALL:
        assert all(text.strip() == text and text for text in cause), cause.id
        assert cause.meaning.endswith(".")


@pytest.mark.parametrize("table", [causes, openclaw_causes], ids=lambda table: table.__name__)
def test_every_one_is_produced_by_a_test_and_found_by_the_doctor(table: ModuleType) -> None:
    declared = {name for name, value in vars(table).items() if isinstance(value, Cause)}
    module = table.__name__.rpartition(".")[2]
    for files in (PRODUCED, sorted((ROOT / "services/cli/doctor").rglob("*.py"))):
        text = "".join(path.read_text() for path in files)
        assert declared == set(re.findall(rf"\b{module}\.([A-Z_]+)\b", text)) - {"ALL"}


def test_everything_that_gateways_report_of_an_upstream_has_its_cause() -> None:
    assert [cause.id for cause in upstream_causes.ALL] == list(PROBLEMS)


def test_what_openclaw_lacks_is_not_recommended_there() -> None:
    theirs = {"OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_PASSWORD", "OPENCLAW_STATE_DIR"}
    for cause in openclaw_causes.ALL:
        named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", cause.cure))
        assert not named & (SETTINGS - theirs), cause.id
        assert "bin/latchkey" not in cause.cure
        assert "{latchkey}" not in cause.cure


def test_what_only_shows_a_request_is_not_recommended_as_an_approval() -> None:
    for cause in openclaw_causes.ALL:
        assert "devices approve --latest" not in cause.cure


def test_commands_and_settings_in_causes_exist() -> None:
    for cause in causes.ALL:
        for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", cause.cure.replace("RAILWAY_", "")):
            known = name in SETTINGS or name in _OF_OTHERS
            assert known, f"{cause.id} names {name}"
        for words in re.findall(r"`latchkey ([a-z]+ [a-z]+)", cause.filled({})[1]):
            assert run(None, *words.split(), "--help").exit_code == 0


_OF_OTHERS = {
    "NODE_EXTRA_CA_CERTS",
    "OPENCLAW_GATEWAY_PASSWORD",
    "SSL_CERT_FILE",
    "DEPLOYMENT_DRAINING_SECONDS",
    "APPROVAL_URL",
    "PENDING_LIMIT_PER_ADDRESS",
    "OPENCLAW_STATE_DIR",
    "OPENCLAW_GATEWAY_PORT",
    "OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP",
}
