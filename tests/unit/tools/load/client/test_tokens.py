"""Which tokens the load tool uses, and where it sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.load.plan import Plan, Scenario
from tools.load.server.subject import NoSystemError, given

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = {"OPENCLAW_GATEWAY_TOKEN": "gate-1,gate-0", "APPROVAL_ADMIN_TOKEN": "admin-1"}
LOCAL = "ws://127.0.0.1:1"
REMOTE = "wss://gateway.example"


def plan(url: str, approval_url: str = "") -> Plan:
    return Plan(scenario=Scenario.CLOSED, url=url, approval_url=approval_url)


def test_tokens_come_from_the_environment_and_are_not_printed() -> None:
    system = given(plan(REMOTE, "https://approval.example"), TOKENS)
    assert (system.gateway_token, system.admin_token) == ("gate-1", "admin-1")
    assert not system.is_ours
    assert "gate-1" not in repr(system)


def test_for_this_machine_the_tokens_of_make_run_fill_in(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text(
        "# Made once.\nOPENCLAW_GATEWAY_TOKEN=kept-g\nAPPROVAL_ADMIN_TOKEN=kept-a\n"
    )
    system = given(plan(LOCAL), {"DATA_DIR": str(tmp_path), "APPROVAL_ADMIN_TOKEN": "own"})
    assert (system.gateway_token, system.admin_token) == ("kept-g", "own")


def test_tokens_of_this_machine_are_never_sent_to_another(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text("APPROVAL_ADMIN_TOKEN=kept\n")
    environ = {"DATA_DIR": str(tmp_path), "OPENCLAW_GATEWAY_TOKEN": "g"}
    with pytest.raises(NoSystemError, match="not set in the environment: APPROVAL_ADMIN_TOKEN"):
        given(plan(REMOTE, "https://approval.example"), environ)


def test_the_admin_token_is_not_sent_in_the_clear() -> None:
    with pytest.raises(NoSystemError, match="unencrypted"):
        given(plan(REMOTE, "http://approval.example"), TOKENS)
