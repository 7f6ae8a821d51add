from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.local.programs.services import approval_program, gateway_program
from deploy.secret_names import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

MADE = {name: f"value of {name}" for name in SECRETS}
LOG = Path("log")


def gateway_env(environ: Mapping[str, str]) -> Mapping[str, str]:
    return gateway_program(environ, MADE, redis_url="redis://g", port=1, log=LOG).env


def approval_env(environ: Mapping[str, str]) -> Mapping[str, str]:
    return approval_program(environ, MADE, redis_url="redis://a", port=2, log=LOG).env


def secrets_in(env: Mapping[str, str]) -> set[str]:
    return {name for name in SECRETS if name in env}


class TestSecrets:
    def test_a_gateway_has_its_own_and_none_of_approvals(self) -> None:
        expected = {"BUS_SECRET", "OPENCLAW_GATEWAY_TOKEN", "UPSTREAM_SECRET"}
        assert secrets_in(gateway_env(MADE)) == expected

    def test_approval_has_its_own_and_none_of_a_gateways(self) -> None:
        expected = {"BUS_SECRET", "APPROVAL_ADMIN_TOKEN", "TOKEN_SECRET"}
        assert secrets_in(approval_env(MADE)) == expected

    def test_the_bus_is_the_same_for_both(self) -> None:
        assert gateway_env({})["BUS_SECRET"] == approval_env({})["BUS_SECRET"]


class TestSettings:
    def test_the_runners_own_are_given(self) -> None:
        env = gateway_env({})
        assert env["REDIS_URL"] == "redis://g"
        assert (env["HOST"], env["PORT"]) == ("127.0.0.1", "1")

    def test_where_it_listens_is_the_runners_to_say(self) -> None:
        env = approval_env({"HOST": "0.0.0.0", "PORT": "80", "REDIS_URL": "redis://x"})  # noqa: S104
        assert (env["HOST"], env["PORT"]) == ("127.0.0.1", "2")
        assert env["REDIS_URL"] == "redis://a"

    @pytest.mark.parametrize(
        "name", ["LOG_LEVEL", "GATEWAY_CONNECTION_LIMIT", "PENDING_LIMIT", "CONTROL_UI_DIR", "PATH"]
    )
    def test_all_else_is_passed_on(self, name: str) -> None:
        assert gateway_env({name: "x"})[name] == approval_env({name: "x"})[name] == "x"

    def test_gateways_share_a_port_only_if_asked_to(self) -> None:
        environ = {"GATEWAY_REUSE_PORT": "yes"}
        assert "GATEWAY_REUSE_PORT" not in gateway_env(environ)
        both = gateway_program({}, MADE, redis_url="redis://g", port=1, log=LOG, shares_port=True)
        assert both.env["GATEWAY_REUSE_PORT"] == "yes"

    @pytest.mark.parametrize("name", ["OPS_PORT", "GATEWAY_REUSE_PORT", "DATA_DIR"])
    def test_what_three_processes_cannot_share_is_not(self, name: str) -> None:
        assert name not in gateway_env({name: "1"})
        assert name not in approval_env({name: "1"})
