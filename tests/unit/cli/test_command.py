"""The command as a whole: configuration, exit codes and output."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from services.approval import settings as approval_settings
from services.cli.config import Config
from services.cli.root import latchkey
from services.gateway import settings as gateway_settings
from shared.settings.declarations import SECRET_MIN_CHARACTERS, Secret
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

ROOT = Path(__file__).parents[3]
SECRET = "s" * 32


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as api:
        api.wait_with(pending())
        yield api


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name)


EVERY_COMMAND = list(leaves(latchkey))


@pytest.mark.parametrize("path", [(), ("devices",), *EVERY_COMMAND], ids=" ".join)
def test_the_help_is_readable(path: tuple[str, ...]) -> None:
    """Formatting marks for click are not shown."""
    assert "\\b" not in run(None, *path, "--help").stdout


@pytest.mark.parametrize("path", EVERY_COMMAND, ids=" ".join)
class TestEveryCommand:
    def test_help_has_an_example_and_json(self, path: tuple[str, ...]) -> None:
        result = run(None, *path, "--help")
        assert result.exit_code == 0
        assert "Example" in result.stdout
        prints_a_script = path == ("completion",)
        assert ("--json" in result.stdout) is not prints_a_script

    def test_no_option_takes_a_secret(self, path: tuple[str, ...]) -> None:
        assert not re.search(r"--[a-z-]*(token|password)", run(None, *path, "--help").stdout)


class TestExitCodes:
    def test_an_unreachable_approval_is_an_error(self) -> None:
        with serving() as gone:
            pass
        result = run(gone, "devices", "list")
        assert result.exit_code == 3
        assert f"does not answer at {gone.url}: connection refused\n" in result.stderr
        assert "Set APPROVAL_URL" in result.stderr

    @pytest.mark.parametrize("status", [200, 302, 404, 502])
    def test_another_server_is_an_error(self, api: Api, status: int) -> None:
        api.answers["GET", "/v1/requests"] = (status, "text/html", b"<h1>hello</h1>")
        api.headers = {"Location": "https://elsewhere.example/"}
        result = run(api, "devices", "list")
        assert result.exit_code == 3
        assert "not Latchkey's approval service" in result.stderr
        assert len(api.asked) == 1

    @pytest.mark.parametrize(
        ("status", "name", "code"),
        [
            (401, "unauthorized", 4),
            (429, "locked-out", 4),
            (503, "store-unavailable", 5),
            (500, "internal", 5),
        ],
    )
    def test_each_problem_has_its_exit_code(
        self, api: Api, status: int, name: str, code: int
    ) -> None:
        api.problem("GET", "/v1/replicas", status, name)
        assert run(api, "replicas").exit_code == code

    def test_errors_are_documents_with_json(self, api: Api) -> None:
        api.problem("GET", "/v1/replicas", 429, "locked-out")
        result = run(api, "replicas", "--json")
        error = json.loads(result.stdout)["error"]
        assert error["exitCode"] == result.exit_code == 4
        assert error["name"] == "locked-out"
        assert not result.stderr

    def test_an_unknown_option_is_usage(self) -> None:
        assert run(None, "devices", "list", "--nonsense").exit_code == 2

    @pytest.mark.parametrize("name", ["remove", "rotate", "revoke"])
    def test_without_a_terminal_nothing_is_changed(self, api: Api, name: str) -> None:
        api.say("GET", "/v1/devices", {"devices": [paired()]})
        result = run(api, "devices", name, DEVICE_ID[:8])
        assert result.exit_code == 6
        assert f"latchkey devices {name} {DEVICE_ID}" in result.stderr
        assert not api.changed


class TestConfig:
    def test_without_a_token_it_says_where_it_could_come_from(self, api: Api) -> None:
        result = run(api, "devices", "list", token=None)
        assert result.exit_code == 4
        assert "APPROVAL_ADMIN_TOKEN" in result.stderr
        assert not api.asked

    def test_the_shell_of_a_gateway_is_told_where_approval_is(self) -> None:
        result = run(
            None,
            *("devices", "list"),
            token=None,
            OPENCLAW_GATEWAY_TOKEN=SECRET,
            BUS_SECRET=SECRET,
            APPROVAL_PUBLIC_URL="https://approve.example",
        )
        assert result.exit_code == 4
        assert "a gateway's shell" in result.stderr
        assert "https://approve.example/setup" in result.stderr
        assert "railway ssh --service approval" in result.stderr

    def test_the_shell_of_approval_uses_its_own_service(self) -> None:
        own = {"APPROVAL_ADMIN_TOKEN": SECRET, "TOKEN_SECRET": SECRET, "HOST": "0.0.0.0,::"}
        assert Config(own | {"PORT": "8080"}).approval_url == "http://127.0.0.1:8080"
        assert Config(own | {"HOST": "fd00::1"}).approval_url == "http://[fd00::1]:18790"
        given = own | {"APPROVAL_URL": "https://approve.example/"}
        assert Config(given).approval_url == "https://approve.example"

    def test_the_token_may_stand_in_the_secrets_file(self, api: Api, tmp_path: Path) -> None:
        file = tmp_path / "secrets.env"
        file.write_text(f"APPROVAL_ADMIN_TOKEN={SECRET},older\n")
        result = run(api, "devices", "list", "--secrets", str(file), token=None)
        assert result.exit_code == 0


class TestPrinting:
    def test_the_list_shows_pending_and_connected_devices(self, api: Api) -> None:
        here = paired(connected=True, replicas=["gw7"], operatorLabel="Desk")
        api.say("GET", "/v1/devices", {"devices": [here]})
        result = run(api, "devices", "list")
        assert REQUEST_ID in result.stdout
        assert "Kitchen Mac" in result.stdout
        assert "Desk" in result.stdout
        assert "Online at gw7" in result.stdout
        document = json.loads(run(api, "devices", "list", "--json").stdout)
        assert document == {"pending": [pending()], "devices": [here]}

    @pytest.mark.parametrize(("wish", "coloured"), [("", True), ("1", False)])
    def test_colour_only_on_terminals_and_where_it_is_wanted(
        self, api: Api, *, wish: str, coloured: bool
    ) -> None:
        around = {
            "PATH": os.environ["PATH"],
            "TERM": "xterm-256color",
            "COLUMNS": "100",
            "NO_COLOR": wish,
            "APPROVAL_URL": api.url,
            "APPROVAL_ADMIN_TOKEN": SECRET,
        }
        command = [sys.executable, "-m", "services.cli", "devices", "list"]
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            with os.fdopen(theirs, "wb") as screen:
                subprocess.run(command, env=around, cwd=ROOT, stdout=screen, check=True)
            shown = terminal.read(65_536)
        assert (b"\x1b" in shown) is coloured
        piped = subprocess.run(command, env=around, cwd=ROOT, capture_output=True, check=True)
        assert b"\x1b" not in piped.stdout

    def test_the_audit_log_shows_the_last_entries(self, api: Api) -> None:
        entries = [
            {"action": "requested", "deviceId": DEVICE_ID, "actor": "device", "atMs": 1, "id": n}
            for n in range(1, 31)
        ]
        last, first = (
            {"entries": part, "next": part[-1]["id"]} for part in (entries[-3:], entries[:3])
        )
        api.say("GET", "/v1/audit?limit=3", last)
        api.say("GET", "/v1/audit?after=0&limit=3", first)
        api.say("GET", "/v1/audit?limit=20", {"entries": entries[-20:], "next": 30})
        assert json.loads(run(api, "audit", "--limit", "3", "--json").stdout) == last
        result = run(api, "audit", "--limit", "3", "--after", "0", "--json")
        assert json.loads(result.stdout) == first
        assert len(run(api, "audit").stdout.splitlines()) == 20

    def test_the_last_entries_of_a_device_are_found_in_the_whole_log(self, api: Api) -> None:
        entries = [
            {"action": "requested", "deviceId": item * 64, "actor": "device", "atMs": 1, "id": n}
            for n, item in enumerate("abab", 1)
        ]
        api.say("GET", "/v1/audit?after=0&limit=1000", {"entries": entries, "next": 4})
        result = run(api, "audit", "--limit", "1", "--device", "aaaa", "--json")
        assert [entry["id"] for entry in json.loads(result.stdout)["entries"]] == [3]

    def test_devices_whose_records_cannot_be_read_are_shown_and_can_be_removed(
        self, api: Api
    ) -> None:
        api.say("GET", "/v1/requests", {"pending": []})
        api.say("GET", "/v1/devices", {"devices": [], "unreadable": [{"deviceId": DEVICE_ID}]})
        api.say("DELETE", f"/v1/devices/{DEVICE_ID}", {"deviceId": DEVICE_ID})
        listed = run(api, "devices", "list").stdout
        assert "Unreadable records (1)" in listed
        assert DEVICE_ID in listed
        document = json.loads(run(api, "devices", "list", "--json").stdout)
        assert document["unreadable"] == [{"deviceId": DEVICE_ID}]
        removed = run(api, "devices", "remove", DEVICE_ID[:12], "--yes")
        assert removed.exit_code == 0
        assert "whose record is unreadable" in removed.stdout


class TestLines:
    """Without a terminal, lines are not wrapped and have no trailing blanks."""

    @pytest.fixture
    def lines(self, api: Api) -> list[str]:
        about = {"deviceId": DEVICE_ID, "atMs": 1, "requestId": REQUEST_ID, "roles": ["operator"]}
        scopes = [f"operator.scope-{number}" for number in range(40)]
        by = ("device " + DEVICE_ID, "device " + "a" * 64, "operator")
        entries = [
            {**about, "action": "requested", "actor": actor, "id": 1, "scopes": scopes}
            for actor in by
        ]
        api.say("GET", "/v1/audit?limit=20", {"entries": entries, "next": 3})
        return run(api, "audit").stdout.splitlines()

    def test_an_entry_is_one_line(self, lines: list[str]) -> None:
        assert len(lines) == 3
        assert all("…" not in line and line.endswith(",operator.scope-39") for line in lines)

    def test_the_author_is_named_once(self, lines: list[str]) -> None:
        for line, who in zip(lines, ("itself", "device " + "a" * 64, "operator"), strict=True):
            assert f"  {DEVICE_ID}  requested by {who}  request {REQUEST_ID}  " in line

    def test_columns_are_never_cut(self, api: Api) -> None:
        replica = "5562f03630bf" * 3
        here = paired(displayName="D" * 200, connected=True, replicas=[replica])
        api.say("GET", "/v1/devices", {"devices": [here]})
        (line,) = (
            line for line in run(api, "devices", "list").stdout.splitlines() if "Online" in line
        )
        for whole in (DEVICE_ID, "D" * 200, replica):
            assert whole in line.split()
        assert "…" not in line

    def test_tables_and_blocks_end_without_blanks(self, api: Api) -> None:
        here = paired(scopes=["operator.read", "operator.write"], displayName="D" * 60)
        api.say("GET", "/v1/devices", {"devices": [here]})
        for arguments in (("list",), ("approve", REQUEST_ID)):
            output = run(api, "devices", *arguments).stdout
            assert len(output.splitlines()) > 5
            assert all(line == line.rstrip() for line in output.splitlines())


class TestAtATerminal:
    def test_ids_and_commands_stay_whole(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")  # for rich that is a terminal
        monkeypatch.setenv("COLUMNS", "80")
        file = tmp_path / ("a-long-name-" * 6)
        output = run(api, "devices", "list", "--secrets", str(file)).stdout
        assert REQUEST_ID in output
        assert f"  latchkey devices approve REQUEST-ID --secrets {file}" in output

    def test_columns_are_cut_to_what_a_person_needs(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "80")
        api.say("GET", "/v1/devices", {"devices": [paired(displayName="D" * 200)]})
        output = run(api, "devices", "list").stdout
        assert DEVICE_ID[:16] in output
        assert DEVICE_ID[:17] not in output
        assert "…" in output


class TestOptions:
    def test_what_needs_no_approval_has_no_options_for_it(self) -> None:
        output = run(None, "secrets", "--help").stdout
        assert "--approval-url" not in output
        assert "--secrets" not in output

    def test_a_stream_is_said_to_be_one(self) -> None:
        assert "one object per line" in run(None, "devices", "watch", "--help").stdout

    @pytest.mark.parametrize(
        ("url", "hint"),
        [
            ("127.0.0.1:18789", "ws://127.0.0.1:18789 or wss://127.0.0.1:18789"),
            ("ws://127.0.0.1:99999", "port must be a number from 1 to 65535: 127.0.0.1:99999"),
        ],
    )
    def test_an_invalid_address_gets_a_hint(self, url: str, hint: str) -> None:
        result = run(None, "doctor", url)
        assert result.exit_code == 2
        assert hint in result.stderr


class TestSecrets:
    def test_every_secret_setting_gets_a_good_value(self) -> None:
        lines = run(None, "secrets").stdout.splitlines()
        made = dict(line.split("=", 1) for line in lines)
        declared = (*gateway_settings.ALL, *approval_settings.ALL)
        assert set(made) == {item.name for item in declared if isinstance(item, Secret)}
        assert len(set(made.values())) == len(made)
        assert all(len(value) >= SECRET_MIN_CHARACTERS for value in made.values())
        assert run(None, "secrets").stdout.splitlines() != lines

    def test_one_secret_alone_is_printed_as_json(self) -> None:
        assert list(json.loads(run(None, "secrets", "BUS_SECRET", "--json").stdout)) == [
            "BUS_SECRET"
        ]
