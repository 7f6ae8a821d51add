from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.load.ground import NoGround, given
from tools.load.plan import Plan, Scenario

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = {"OPENCLAW_GATEWAY_TOKEN": "gate-1,gate-0", "APPROVAL_ADMIN_TOKEN": "admin-1"}
LOCAL = "ws://127.0.0.1:1"
AWAY = "wss://gateway.example"


def plan(url: str, approval_url: str = "") -> Plan:
    return Plan(scenario=Scenario.CLOSED, url=url, approval_url=approval_url)


class TestTokens:
    def test_come_from_the_environment_the_first_of_each(self) -> None:
        ground = given(plan(AWAY, "https://approval.example"), TOKENS)
        assert (ground.gateway_token, ground.admin_token) == ("gate-1", "admin-1")
        assert not ground.is_ours
        assert "gate-1" not in repr(ground)

    def test_of_this_machine_are_those_that_make_run_keeps(self, tmp_path: Path) -> None:
        (tmp_path / "secrets.env").write_text(
            "# Made once.\nOPENCLAW_GATEWAY_TOKEN=kept-g\nAPPROVAL_ADMIN_TOKEN=kept-a\n"
        )
        ground = given(plan(LOCAL), {"DATA_DIR": str(tmp_path), "APPROVAL_ADMIN_TOKEN": "own"})
        assert (ground.gateway_token, ground.admin_token) == ("kept-g", "own")
        assert ground.approval_url == "http://127.0.0.1:18790"

    def test_of_others_are_never_those_of_this_machine(self, tmp_path: Path) -> None:
        (tmp_path / "secrets.env").write_text("APPROVAL_ADMIN_TOKEN=kept\n")
        environ = {"DATA_DIR": str(tmp_path), "OPENCLAW_GATEWAY_TOKEN": "g"}
        with pytest.raises(NoGround, match="not set in the environment: APPROVAL_ADMIN_TOKEN"):
            given(plan(AWAY, "https://approval.example"), environ)


@pytest.mark.parametrize(
    ("url", "approval_url", "said"),
    [
        (AWAY, "", "--approval-url"),
        (AWAY, "ftp://approval.example", "--approval-url"),
        (AWAY, "http://approval.example", "unencrypted"),
    ],
)
def test_an_approval_that_cannot_be_used(url: str, approval_url: str, said: str) -> None:
    with pytest.raises(NoGround, match=said):
        given(plan(url, approval_url), TOKENS)
