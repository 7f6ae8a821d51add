"""`latchkey lockouts`: what is listed, what is lifted, and what must be confirmed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cli.fake_api import Api, run, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

UNTIL_MS = 4_000_000_000_000


def lockout(
    credential: str = "shared-secret", address: str = "203.0.113.7", **more: str
) -> dict[str, Any]:
    """Return a lock-out as it is listed."""
    times = {"sinceMs": UNTIL_MS - 300_000, "untilMs": UNTIL_MS}
    return {"credential": credential, "address": address, "failures": 10, **times, **more}


NETWORK = lockout("device-token", "2001:db8:0:7::", network="2001:db8:0:7::/64")


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as api:
        found = [lockout(), lockout("admin-token"), NETWORK]
        api.say("GET", "/v1/lockouts", {"lockouts": found})
        for item in found:
            path = f"/v1/lockouts/{item['credential']}/{item['address']}"
            api.say("DELETE", path, {"lifted": item})
        yield api


class TestList:
    def test_each_says_which_secret_and_how_long(self, api: Api) -> None:
        result = run(api, "lockouts", "list")
        assert result.exit_code == 0
        assert "Locked out (3)" in result.stdout
        for text in (
            "203.0.113.7",
            "gateway token",
            "operator token",
            "2001:db8:0:7::/64",
            " left",
        ):
            assert text in result.stdout
        assert "latchkey lockouts lift ADDRESS" in result.stdout

    def test_no_lock_outs_are_said_so(self, api: Api) -> None:
        api.say("GET", "/v1/lockouts", {"lockouts": []})
        assert run(api, "lockouts", "list").stdout == "No addresses are locked out.\n"

    def test_lock_outs_are_printed_as_json(self, api: Api) -> None:
        listed = json.loads(run(api, "lockouts", "list", "--json").stdout)["lockouts"]
        assert [item["credential"] for item in listed] == [
            "shared-secret",
            "admin-token",
            "device-token",
        ]


class TestLift:
    def test_lifting_an_address_lifts_all_its_lock_outs(self, api: Api) -> None:
        result = run(api, "lockouts", "lift", "203.0.113.7", "--yes")
        assert result.exit_code == 0, result.stderr
        assert (
            result.stdout == "Lifted the lock-out of 203.0.113.7 (gateway token, operator token).\n"
        )
        assert api.changed == [
            "/v1/lockouts/shared-secret/203.0.113.7",
            "/v1/lockouts/admin-token/203.0.113.7",
        ]

    def test_one_kind_of_secret_can_be_lifted_alone(self, api: Api) -> None:
        result = run(api, "lockouts", "lift", "203.0.113.7", "--secret", "admin-token", "--yes")
        assert result.exit_code == 0
        assert api.changed == ["/v1/lockouts/admin-token/203.0.113.7"]

    @pytest.mark.parametrize(
        "address", ["2001:db8:0:7::/64", "2001:db8:0:7::", "2001:DB8:0:7:1:2:3:4"]
    )
    def test_an_ipv6_address_stands_for_its_network(self, api: Api, address: str) -> None:
        assert run(api, "lockouts", "lift", address, "--yes").exit_code == 0
        assert api.changed == ["/v1/lockouts/device-token/2001:db8:0:7::"]

    def test_a_confirmation_is_required(self, api: Api) -> None:
        result = run(api, "lockouts", "lift", "203.0.113.7", "--secret", "shared-secret")
        assert result.exit_code == 6
        assert "lockouts lift 203.0.113.7 --secret shared-secret --yes" in result.stderr
        assert api.changed == []

    @pytest.mark.parametrize("address", ["203.0.113.8", "2001:db8:0:8::1", "198.51.100.0/24"])
    def test_an_address_that_is_not_locked_out(self, api: Api, address: str) -> None:
        result = run(api, "lockouts", "lift", address, "--yes")
        assert result.exit_code == 1
        assert "not locked out" in result.stderr
        assert api.changed == []

    def test_an_invalid_address_is_a_usage_error(self, api: Api) -> None:
        assert run(api, "lockouts", "lift", "Kitchen Mac", "--yes").exit_code == 2
        assert api.changed == []

    def test_a_lock_out_that_ends_meanwhile_is_reported(self, api: Api) -> None:
        path = "/v1/lockouts/device-token/2001:db8:0:7::"
        api.problem("DELETE", path, 404, "unknown-lockout")
        result = run(api, "lockouts", "lift", "2001:db8:0:7::1", "--yes", "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout)["error"]["name"] == "unknown-lockout"
