"""`latchkey upstream`: what it prints, and what it makes of what gateways report."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from services.cli.upstream_config import as_commands, as_json5, upstream_config
from shared.upstream import PROBLEMS, header_names
from tests.unit.cli.fake_api import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.fake_api import Api

SECRET = "an-upstream-secret-of-these-tests"


def replicas(*upstreams: dict[str, Any] | None) -> dict[str, Any]:
    """Make an answer with these gateways."""
    gateways = [
        {
            "bootId": f"gateway{number}",
            "connections": 0,
            "lastBeatAgoMs": 1,
            **({} if item is None else {"upstream": item}),
        }
        for number, item in enumerate(upstreams)
    ]
    return {"gateways": gateways, "approvals": [], "presenceVersion": 1}


class TestCheck:
    def test_all_is_well_only_where_every_gateway_reaches_it(self, api: Api) -> None:
        api.say("GET", "/v1/replicas", replicas({"reachable": True, "version": "2026.9.6"}))
        done = run(api, "upstream", "check")
        assert done.exit_code == 0
        assert "OpenClaw 2026.9.6 answers" in done.output

    @pytest.mark.parametrize("code", PROBLEMS)
    def test_every_problem_is_explained(self, api: Api, code: str) -> None:
        found = {"reachable": True, "problems": [code]}
        api.say("GET", "/v1/replicas", replicas({"reachable": True}, found))
        done = run(api, "upstream", "check", "--json")
        assert done.exit_code == 1
        body = json.loads(done.output)
        assert body["ok"] is False
        (problem,) = body["gateways"][1]["problems"]
        assert problem["cause"] == code
        assert problem["whatToDo"]

    def test_a_problem_of_a_later_release_is_reported_as_a_refusal(self, api: Api) -> None:
        api.say("GET", "/v1/replicas", replicas({"reachable": True, "problems": ["upstream-new"]}))
        done = run(api, "upstream", "check", "--json")
        assert json.loads(done.output)["gateways"][0]["problems"][0]["cause"] == "upstream-refuses"

    def test_an_outage_says_why(self, api: Api) -> None:
        down = {"reachable": False, "reason": "connection refused", "downSeconds": 7}
        api.say("GET", "/v1/replicas", replicas(down))
        done = run(api, "upstream", "check")
        assert done.exit_code == 1
        assert "upstream-unreachable" in done.output
        assert "connection refused" in done.output

    def test_an_outage_may_be_a_restart_or_a_wrong_address(self, api: Api) -> None:
        down = {"reachable": False, "reason": "no answer in time", "downSeconds": 7}
        api.say("GET", "/v1/replicas", replicas(down))
        remedy = " ".join(run(api, "upstream", "check").output.split())
        assert "If OpenClaw is restarting" in remedy
        assert "restart it if it hangs" in remedy
        assert "check `UPSTREAM_URL`" in remedy

    def test_a_gateway_without_an_upstream_is_named(self, api: Api) -> None:
        api.say("GET", "/v1/replicas", replicas({"reachable": True}, None))
        done = run(api, "upstream", "check", "--json")
        assert done.exit_code == 1
        assert json.loads(done.output)["withoutUpstream"] == ["gateway1"]


class TestConfig:
    def test_it_is_derived_from_the_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("UPSTREAM_SECRET", f"{SECRET},older-{SECRET}")
        done = run(
            None,
            *("upstream", "config", "--json", "--origin", "wss://chat.example/x"),
            *("--replicas", "10.1.2.3/8"),
        )
        assert done.exit_code == 0, done.output
        gateway = json.loads(done.output)["gateway"]
        names = header_names(SECRET)
        assert gateway["trustedProxies"] == ["10.0.0.0/8"]
        assert gateway["controlUi"]["allowedOrigins"] == ["https://chat.example"]
        assert gateway["auth"]["trustedProxy"]["userHeader"] == names.user
        assert gateway["auth"]["trustedProxy"]["requiredHeaders"] == [names.required]
        assert gateway["auth"]["trustedProxy"]["allowLoopback"] is False
        assert "latchkey" not in gateway["auth"]["identityScopes"]
        assert SECRET not in done.output

    def test_this_machine_is_allowed_only_where_replicas_are_on_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("UPSTREAM_SECRET", SECRET)
        done = run(None, "upstream", "config", "--json", "--origin", "http://127.0.0.1:18789")
        gateway = json.loads(done.output)["gateway"]
        assert gateway["trustedProxies"] == ["127.0.0.1/32"]
        assert gateway["auth"]["trustedProxy"]["allowLoopback"] is True

    def test_many_gateways_need_a_higher_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("UPSTREAM_SECRET", SECRET)
        origin = ("--origin", "https://chat.example")
        few = run(None, "upstream", "config", *origin, "--gateways", "7")
        many = run(None, "upstream", "config", *origin, "--gateways", "12")
        assert "OPENCLAW_MAX_PREAUTH" not in few.output + few.stderr
        assert "OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP=96" in many.output + many.stderr

    @pytest.mark.parametrize("secret", ["", "short"])
    def test_without_a_secret_nothing_is_printed(
        self, monkeypatch: pytest.MonkeyPatch, secret: str
    ) -> None:
        monkeypatch.setenv("UPSTREAM_SECRET", secret)
        done = run(None, "upstream", "config", "--origin", "https://chat.example")
        assert done.exit_code == 2
        assert "UPSTREAM_SECRET" in done.stderr

    @pytest.mark.parametrize("given", [("--replicas", "nowhere"), ("--origin", "chat.example")])
    def test_an_invalid_address_is_reported(
        self, monkeypatch: pytest.MonkeyPatch, given: tuple[str, str]
    ) -> None:
        monkeypatch.setenv("UPSTREAM_SECRET", SECRET)
        done = run(None, "upstream", "config", "--origin", "https://chat.example", *given)
        assert done.exit_code == 2

    def test_without_make_run_the_dashboards_address_has_to_be_given(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("UPSTREAM_SECRET", SECRET)
        monkeypatch.delenv("GATEWAY_PUBLIC_URL", raising=False)
        done = run(None, "upstream", "config", "--secrets", str(tmp_path / "none.env"))
        assert done.exit_code == 2
        assert "`make run` is not running here" in done.stderr
        assert "--origin" in done.stderr

    def test_commands_and_file_say_the_same(self) -> None:
        config = upstream_config(
            SECRET, origins=["https://a.example"], replicas=["::1/128"], password="p"
        )
        built: dict[str, Any] = {}
        for command in as_commands(config):
            *_, path, value = shlex.split(command)
            at = built
            *parents, name = path.split(".")
            for parent in parents:
                at = at.setdefault(parent, {})
            at[name] = json.loads(value)
        assert built == config
        assert 'identityScopes: {\n        "latchkey-relay": [' in as_json5(config)
