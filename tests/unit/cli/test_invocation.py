"""Mistyped commands, other working directories, and shell completion."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.cli.commands.completion import COMPLETE_VARIABLE, script
from shared.calling import LAUNCHER
from tests.unit.cli.fake_api import (
    DEVICE_ID,
    REQUEST_ID,
    TOKEN,
    Api,
    paired,
    pending,
    run,
)

OTHER_ID = "00000000-0000-4000-8000-000000000000"


class TestWhereACommandIs:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            (("approve", "--latest"), "latchkey devices approve --latest"),
            (("list",), "latchkey devices list"),
            (("watch", "--count", "1"), "latchkey devices watch --count 1"),
            (
                ("rename", "eb62a671", "Kitchen Mac"),
                "latchkey devices rename eb62a671 'Kitchen Mac'",
            ),
            (("lift", "203.0.113.7"), "latchkey lockouts lift 203.0.113.7"),
            (("devices", "replicas", "--json"), "latchkey replicas --json"),
            (("devices", "aprove"), "latchkey devices approve"),
            (("device", "list"), "latchkey devices"),
        ],
        ids=" ".join,
    )
    def test_a_mistyped_command_is_corrected(self, typed: tuple[str, ...], meant: str) -> None:
        result = run(None, *typed)
        assert result.exit_code == 2
        assert f"  {meant}\n" in result.stderr

    def test_an_unknown_command_without_a_similar_one_is_not_corrected(self) -> None:
        result = run(None, "xyzzy")
        assert result.exit_code == 2
        assert "No such command: `latchkey xyzzy`." in result.stderr
        assert "Did you mean" not in result.stderr


class TestNames:
    @pytest.mark.parametrize("label", ["", "   ", "x" * 65])
    def test_an_invalid_label_is_refused_before_any_request(self, api: Api, label: str) -> None:
        result = run(api, "devices", "rename", DEVICE_ID, label)
        assert result.exit_code == 2
        assert "a label must have 1 to 64 characters" in result.stderr
        assert f"latchkey devices rename {DEVICE_ID} 'Kitchen Mac'" in result.stderr
        assert api.asked == []


class TestFullControl:
    def admin(self, api: Api, **about: Any) -> None:
        api.wait_with(pending(grantsAdmin=True, **about))
        approved = {"requestId": REQUEST_ID, "device": paired()}
        api.say("POST", f"/v1/requests/{REQUEST_ID}/approve", approved)

    def test_without_anybody_to_ask_it_is_not_given(self, api: Api) -> None:
        self.admin(api)
        assert run(api, "devices", "approve", REQUEST_ID).exit_code == 6
        assert api.changed == []

    def test_scripts_say_yes_to_all_of_it(self, api: Api) -> None:
        self.admin(api)
        assert run(api, "devices", "approve", REQUEST_ID, "--yes", "--no-wait").exit_code == 0
        assert api.changed == [f"/v1/requests/{REQUEST_ID}/approve"]

    def test_help_says_what_yes_means(self) -> None:
        output = " ".join(run(None, "devices", "approve", "--help").stdout.split())
        assert "even to grant full control (operator.admin)" in output


class TestRejectingAllOfAnAddress:
    def waits(self, api: Api, **more: Any) -> None:
        found = [pending(), pending(requestId=OTHER_ID)]
        received = {"pending": found, "total": 2, **more}
        api.say("GET", "/v1/requests?address=203.0.113.9&limit=200", received)
        rejected = [{"requestId": item["requestId"], "deviceId": DEVICE_ID} for item in found]
        api.say("POST", "/v1/requests/reject", {"rejected": rejected[:1], "ended": []})

    def test_what_was_shown_is_what_is_rejected(self, api: Api) -> None:
        self.waits(api)
        result = run(api, "devices", "reject", "--from", "203.0.113.9", "--yes")
        assert result.exit_code == 0, result.stderr
        assert REQUEST_ID in result.stdout
        assert OTHER_ID in result.stdout
        assert "Rejected 1 of 2 requests from 203.0.113.9." in result.stdout
        ((_, _, body),) = [request for request in api.asked if request[0] == "POST"]
        assert f'"{REQUEST_ID}"' in body
        assert f'"{OTHER_ID}"' in body

    def test_without_a_terminal_no_confirmation_is_possible(self, api: Api) -> None:
        self.waits(api)
        result = run(api, "devices", "reject", "--from", "203.0.113.9")
        assert result.exit_code == 6
        assert api.changed == []

    @pytest.mark.parametrize(
        "arguments", [(), (REQUEST_ID, "--from", "203.0.113.9"), ("--from", "kitchen")]
    )
    def test_contradictory_options_are_refused(self, api: Api, arguments: tuple[str, ...]) -> None:
        assert run(api, "devices", "reject", *arguments).exit_code == 2
        assert api.asked == []

    def test_an_ipv6_address_stands_for_its_network(self, api: Api) -> None:
        path = "/v1/requests?address=2001:db8::/64&limit=200"
        api.say("GET", path, {"pending": [], "total": 0})
        for given in ("2001:db8::1", "2001:db8::/64"):
            result = run(api, "devices", "reject", "--from", given)
            assert result.exit_code == 1
            assert f"no request from {given}" in result.stderr


def launched(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, command: Path = LAUNCHER
) -> subprocess.CompletedProcess[str]:
    """Run the launcher as a shell does."""
    around = {"PATH": os.environ["PATH"], "HOME": str(cwd), **(env or {})}
    return subprocess.run(
        [command, *arguments], cwd=cwd, env=around, capture_output=True, text=True, check=False
    )


class TestFromAnyDirectory:
    @pytest.mark.parametrize("mode", ["absolute", "symlink", "relative symlink", "symlink twice"])
    def test_it_runs_with_its_own_modules(self, tmp_path: Path, mode: str) -> None:
        for package in ("services", "shared", "click"):  # the caller's own packages
            (tmp_path / package).mkdir()
            (tmp_path / package / "__init__.py").write_text("raise SystemExit('not this one')")
        command = LAUNCHER
        if mode != "absolute":
            command = tmp_path / "latchkey"
            relative = Path(os.path.relpath(LAUNCHER, tmp_path.resolve()))
            command.symlink_to(relative if mode == "relative symlink" else LAUNCHER)
        if mode == "symlink twice":
            (tmp_path / "bin").mkdir()
            twice = tmp_path / "bin" / "latchkey"
            twice.symlink_to("../latchkey")
            command = twice
        done = launched("--version", cwd=tmp_path, command=command)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("latchkey, version ")

    def test_it_calls_an_approval_from_there(self, api: Api, tmp_path: Path) -> None:
        api.wait_with(pending())
        env = {"APPROVAL_URL": api.url, "APPROVAL_ADMIN_TOKEN": TOKEN}
        done = launched("devices", "list", cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert REQUEST_ID in done.stdout


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_script_asks_this_installation(self, shell: str) -> None:
        output = script(shell)
        assert f"{COMPLETE_VARIABLE}={shell}_complete" in output
        assert shlex.quote(str(LAUNCHER)) in output
        assert "commands[latchkey]" not in output
        assert run(None, "completion", shell).stdout == output + "\n"

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            (["latchkey", "dev"], {"devices"}),
            (["bin/latchkey", "devices", "app"], {"approve"}),
            (["latchkey", "devices", "approve", "--la"], {"--latest"}),
            (["latchkey", "devices", "rotate", "--role", ""], {"operator", "node"}),
            (["latchkey", "completion", ""], {"bash", "zsh", "fish"}),
        ],
        ids=lambda given: " ".join(given) if isinstance(given, list) else "",
    )
    def test_bash_completes(self, tmp_path: Path, words: list[str], found: set[str]) -> None:
        """In a real bash: the words, the completion function, and its result."""
        line = (
            f"{script('bash')}\nCOMP_WORDS=({shlex.join(words)})\nCOMP_CWORD={len(words) - 1}\n"
            f"_latchkey_completion {words[0]}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        )
        done = subprocess.run(
            ["/bin/bash", "-c", line],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert set(done.stdout.split()) == found

    @pytest.mark.parametrize("shell", ["zsh", "fish"])
    def test_the_other_shells_are_answered(self, tmp_path: Path, shell: str) -> None:
        words = {"COMP_WORDS": "latchkey devices app", "COMP_CWORD": "2"}
        if shell == "fish":
            words["COMP_CWORD"] = "app"
        asked = {COMPLETE_VARIABLE: f"{shell}_complete", **words}
        done = launched(cwd=tmp_path, env=asked)
        assert done.returncode == 0
        assert "approve" in done.stdout
        assert "reject" not in done.stdout
