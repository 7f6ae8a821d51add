"""`latchkey devices approve`: what is shown, what must be confirmed, and what is approved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.fake_api import (
    DEVICE_ID,
    REQUEST_ID,
    Api,
    paired,
    pending,
    run,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER_ID = "99999999-0000-4000-8000-000000000000"
SEEN = paired(connected=True, replicas=["gw7"], lastSeenAtMs=1_795_328_630_000)
APPROVE = f"/v1/requests/{REQUEST_ID}/approve"


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as api:
        api.wait_with(pending())
        api.say("POST", APPROVE, {"requestId": REQUEST_ID, "device": paired()})
        yield api


class TestApprovingTheLatestRequest:
    def test_latest_with_yes_is_refused_with_the_reason(self, api: Api) -> None:
        result = run(api, "devices", "approve", "--latest", "--yes")
        assert result.exit_code == 2
        assert "another request may be newer than yours" in result.stderr
        assert not api.asked

    def test_latest_approves_nothing_where_nobody_can_be_asked(self, api: Api) -> None:
        result = run(api, "devices", "approve", "--latest")
        assert result.exit_code == 6
        assert "Kitchen Mac" in result.stdout
        assert f"latchkey devices approve {REQUEST_ID} --yes" in result.stderr
        assert not api.changed

    def test_a_beginning_of_an_id_is_not_enough_for_yes(self, api: Api) -> None:
        result = run(api, "devices", "approve", REQUEST_ID[:8], "--yes")
        assert result.exit_code == 2
        assert not api.changed

    def test_latest_is_the_first_of_the_list(self, api: Api) -> None:
        api.wait_with(pending(), pending(requestId=OTHER_ID))
        result = run(api, "devices", "approve", "--latest", "--json")
        assert result.exit_code == 6
        document = json.loads(result.stdout)
        assert document["selected"] == pending()
        assert document["approveCommand"] == f"latchkey devices approve {REQUEST_ID} --yes"
        assert not api.changed


class TestShowing:
    def shown(self, api: Api, **about: object) -> str:
        api.wait_with(pending(**about))
        return run(api, "devices", "approve", REQUEST_ID[:8]).stdout

    def test_all_that_matters_is_shown(self, api: Api) -> None:
        shown = self.shown(api)
        for label in ("Kitchen Mac", "command line (cli, cli)", "darwin", "203.0.113.9"):
            assert label in shown
        assert "operator.read: view activity" in shown
        assert "eb62 a671 5dee 6fc0" in shown
        assert "!" not in shown

    @pytest.mark.parametrize(
        "scope", ["operator.admin", "operator.pairing", "operator.approvals", "operator.new"]
    )
    def test_what_gives_power_is_marked(self, api: Api, scope: str) -> None:
        shown = self.shown(api, scopes=["operator.read", scope])
        assert f"! {scope}" in shown
        assert "! gives control over other devices" in shown
        assert "! operator.read" not in shown

    def test_all_that_a_device_says_it_is_is_shown(self, api: Api) -> None:
        node = {"role": "node", "clientId": "node-host", "clientMode": "node"}
        top = {"role": "operator", "clientId": "cli", "clientMode": "cli", "platform": "darwin"}
        both = [top, {**node, "displayName": "box", "platform": "linux", "deviceFamily": "Linux"}]
        shown = self.shown(api, identities=both)
        assert "also as" in shown
        assert "node: box, node (node-host, node), linux, Linux" in shown
        assert "also box" in run(api, "devices", "list").stdout

    def test_what_is_new_for_a_paired_device_is_shown(self, api: Api) -> None:
        request = pending(isRepair=True, scopes=["operator.read", "operator.write"])
        api.wait_with(request)
        api.say("GET", f"/v1/devices/{DEVICE_ID}", paired(operatorLabel="Mine"))
        shown = run(api, "devices", "approve", REQUEST_ID).stdout
        assert "paired as" in shown
        assert "Mine" in shown
        assert "operator.read: view activity (has it)" in shown
        assert "operator.write: send messages and start work (new)" in shown

    def test_what_was_revoked_is_not_held(self, api: Api) -> None:
        token = {"role": "operator", "scopes": ["operator.read"], "createdAtMs": 1}
        for revoked, held in (({}, True), ({"revokedAtMs": 2}, False)):
            api.wait_with(pending(isRepair=True))
            api.say("GET", f"/v1/devices/{DEVICE_ID}", paired(tokens=[token | revoked]))
            shown = run(api, "devices", "approve", REQUEST_ID).stdout
            assert ("(has it)" in shown) is held

    @pytest.mark.parametrize(
        "evil",
        [
            "\x1b[2J\x1b[31mme",
            "me\rApproved",
            "me\nscopes  none",
            "me\u202eedon",
            "me\u05d0\u05d1",
            "me\u0661",
            "me\u2066x",
            "me\x9b31m",
            "me\u200b",
            "[red]me[/red][link=https://evil.example]x[/link]",
            ":skull:",
        ],
    )
    def test_what_a_device_says_of_itself_is_shown_as_plain_text(self, api: Api, evil: str) -> None:
        api.say("GET", "/v1/devices", {"devices": []})
        odd = pending(displayName=evil, platform=evil, clientId=evil, scopes=[evil], remoteIp=evil)
        api.wait_with(odd)
        for arguments in (("approve", REQUEST_ID), ("list",)):
            result = run(api, "devices", *arguments)
            assert all(c.isprintable() or c == "\n" for c in result.output)
            assert not set(result.output) & set("\u05d0\u05d1\u0661")
            if evil.isprintable() and evil.isascii():
                assert evil[:20] in result.output.replace("\n", "")
        result = run(api, "devices", "approve", "--latest", "--json")
        assert result.stdout.isascii()
        assert json.loads(result.stdout)["selected"]["displayName"] == evil


class TestApproving:
    def test_an_id_with_yes_is_approved(self, api: Api) -> None:
        result = run(api, "devices", "approve", REQUEST_ID, "--yes", "--no-wait")
        assert result.exit_code == 0, result.output
        assert api.changed == [APPROVE]
        assert f"Approved Kitchen Mac ({REQUEST_ID})." in result.stdout

    def test_it_says_where_the_device_came_back(self, api: Api) -> None:
        self.reconnect(api, before=None, after=SEEN)
        result = run(api, "devices", "approve", REQUEST_ID, "--yes")
        assert result.exit_code == 0
        assert "Online at gw7 0 s after approval." in result.stdout

    def test_a_session_from_before_the_approval_does_not_count(self, api: Api) -> None:
        self.reconnect(api, before=SEEN, after=SEEN)
        result = run(api, "devices", "approve", REQUEST_ID, "--yes", "--wait", "0.1")
        assert result.exit_code == 0
        assert "has not connected within 0.1 s" in result.stdout

    def reconnect(self, api: Api, *, before: object, after: object) -> None:
        path = f"/v1/devices/{DEVICE_ID}"
        if before:
            api.say("GET", path, before)

        def approved() -> None:
            api.say("GET", "/v1/requests", {"pending": []})
            api.say("GET", path, after)

        api.then["POST", APPROVE] = approved

    def test_a_device_that_asks_for_something_else_is_reported(self, api: Api) -> None:
        result = run(api, "devices", "approve", REQUEST_ID, "--yes", "--wait", "0.1")
        assert result.exit_code == 0
        assert "The device has sent a different request" in result.stdout

    def test_an_approval_is_printed_as_json(self, api: Api) -> None:
        result = run(api, "devices", "approve", REQUEST_ID, "--yes", "--no-wait", "--json")
        assert json.loads(result.stdout) == {
            "requestId": REQUEST_ID,
            "device": paired(),
            "online": None,
        }

    def test_a_superseded_one_names_its_successor(self, api: Api) -> None:
        api.problem("POST", APPROVE, 409, "request-superseded", successorRequestId=OTHER_ID)
        result = run(api, "devices", "approve", REQUEST_ID, "--yes")
        assert result.exit_code == 1
        assert f"latchkey devices approve {OTHER_ID}" in result.stderr

    def test_an_unknown_one_is_not_found(self, api: Api) -> None:
        api.problem("POST", f"/v1/requests/{OTHER_ID}/approve", 404, "unknown-request")
        result = run(api, "devices", "approve", OTHER_ID)
        assert result.exit_code == 1
        assert "no pending request has this id" in result.stderr

    def test_rejecting_an_unknown_one_says_the_same(self, api: Api) -> None:
        api.problem("POST", f"/v1/requests/{DEVICE_ID[:8]}/reject", 404, "unknown-request")
        result = run(api, "devices", "reject", DEVICE_ID[:8])
        assert result.exit_code == 1
        assert "no pending request has this id" in result.stderr
        assert "latchkey devices list" in result.stderr

    def test_two_with_the_same_beginning_are_distinguished(self, api: Api) -> None:
        api.wait_with(pending(), pending(requestId=REQUEST_ID[:-1] + "0"))
        result = run(api, "devices", "approve", REQUEST_ID[:8])
        assert result.exit_code == 1
        assert "several request ids start with this" in result.stderr

    def test_approving_without_a_request_is_an_error(self, api: Api) -> None:
        api.wait_with()
        assert run(api, "devices", "approve", "--latest").exit_code == 1

    @pytest.mark.parametrize("arguments", [(), (REQUEST_ID, "--latest"), ("../devices",)])
    def test_the_request_must_be_named(self, api: Api, arguments: tuple[str, ...]) -> None:
        assert run(api, "devices", "approve", *arguments).exit_code == 2
        assert not api.changed
