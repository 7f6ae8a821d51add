from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deploy.local import announcement as module
from deploy.local.announcement import announcement
from deploy.local.places import DEFAULT_DATA_DIR
from deploy.local.secrets_file import load_secrets
from deploy.local.settings import RunSettings
from deploy.secret_names import ADMIN_TOKEN, GATEWAY_TOKEN, SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    return RunSettings(1, 2, None, tmp_path / "it's here")


def text(settings: RunSettings, environ: Mapping[str, str], redis_port: int | None = 3) -> str:
    return announcement(
        settings,
        environ,
        gateways=2,
        gateway_port=18789,
        approval_port=18790,
        redis_port=redis_port,
        openclaw=None,
    )


def pasted(said: str, line: str, variable: str, environ: Mapping[str, str]) -> str:
    """Return a printed line's arguments as a shell parses them."""
    found = re.search(rf"^  {line}.*$", said, re.MULTILINE)
    assert found is not None
    return subprocess.run(
        ["/bin/sh", "-c", f'{found[0]}\nprintf %s "${variable}"'],
        capture_output=True,
        check=True,
        text=True,
        env={"PATH": os.defpath, **environ},
    ).stdout


def test_addresses_are_printed_and_secrets_are_not(settings: RunSettings) -> None:
    secrets = load_secrets(settings.secrets_file, {}, SECRETS)
    said = text(settings, {})
    assert "ready" in said
    assert "ws://127.0.0.1:18789" in said
    assert "http://127.0.0.1:18790" in said
    assert "127.0.0.1:3" in said
    assert not [name for name, value in secrets.items() if value in said]


def test_the_page_is_named_and_no_secret_is_in_its_address(settings: RunSettings) -> None:
    said = text(settings, {})
    assert said.index("/setup") < said.index("Connect a device")
    assert set(re.findall(r"http\S*/setup\S*", said)) == {"http://127.0.0.1:18790/setup"}


def test_the_command_reports_unknown_fields(settings: RunSettings) -> None:
    def command(settings: RunSettings, environ: Mapping[str, str]) -> list[str]:
        found = re.search(r"(?m)^  (.*bin/latchkey .*)$", text(settings, environ))
        assert found is not None
        return shlex.split(found[1])

    usual = ["bin/latchkey", "devices", "approve", "--latest"]
    assert command(replace(settings, data_dir=DEFAULT_DATA_DIR), {}) == usual
    elsewhere = [*usual, "--secrets", str(settings.secrets_file)]
    assert command(settings, {}) == command(settings, {ADMIN_TOKEN: "t"}) == elsewhere


def test_a_device_finds_this_run(settings: RunSettings) -> None:
    def command(settings: RunSettings, environ: Mapping[str, str]) -> list[str]:
        found = re.search(r"(?m)^  (.*shared\.device.*)$", text(settings, environ))
        assert found is not None
        return shlex.split(found[1])

    usual = [".venv/bin/python", "-m", "shared.device"]
    assert command(replace(settings, data_dir=DEFAULT_DATA_DIR), {}) == usual
    elsewhere = [*usual, "--secrets", str(settings.secrets_file)]
    assert command(settings, {}) == command(settings, {GATEWAY_TOKEN: "t"}) == elsewhere


def test_sentences_fit_a_terminal(settings: RunSettings) -> None:
    said = text(settings, {"CONTROL_UI_DIR": "/ui"}) + text(settings, {})
    assert all(len(line) < 80 for line in said.splitlines() if not line.startswith("  "))


def test_the_dashboard_is_named_where_there_is_one(settings: RunSettings) -> None:
    secrets = load_secrets(settings.secrets_file, {}, SECRETS)
    assert "Open the dashboard" not in text(settings, {})
    said = text(settings, {"CONTROL_UI_DIR": "/ui"})
    assert "  http://127.0.0.1:18789/\n" in said
    assert not [name for name, value in secrets.items() if value in said]
    found = re.search(r"^  (echo .*)$", said, re.MULTILINE)
    assert found is not None
    printed = subprocess.run(
        ["/bin/sh", "-c", found[1]], capture_output=True, check=True, text=True
    )
    assert printed.stdout == secrets["OPENCLAW_GATEWAY_TOKEN"] + "\n"


def test_a_redis_of_its_own_is_said_to_be_that(settings: RunSettings) -> None:
    assert "REDIS_URL names" in text(settings, {}, redis_port=None)


@pytest.mark.parametrize(
    ("line", "variable", "name"),
    [
        ("TOKEN=", "TOKEN", "APPROVAL_ADMIN_TOKEN"),
        ("export ", "OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_TOKEN"),
    ],
)
class TestPasting:
    def test_the_token_comes_from_the_file(
        self, settings: RunSettings, line: str, variable: str, name: str
    ) -> None:
        secrets = load_secrets(settings.secrets_file, {}, SECRETS)
        assert pasted(text(settings, {}), line, variable, {}) == secrets[name]

    def test_the_first_value_of_a_list_is_used(
        self, settings: RunSettings, line: str, variable: str, name: str
    ) -> None:
        settings.data_dir.mkdir()
        settings.secrets_file.write_text(f"{name}=new,old\n")
        assert pasted(text(settings, {}), line, variable, {}) == "new"

    def test_a_token_the_environment_gives_comes_from_there(
        self, settings: RunSettings, line: str, variable: str, name: str
    ) -> None:
        environ = {name: "given,old"}
        said = text(settings, environ)
        assert "given" not in said
        assert pasted(said, line, variable, environ) == "given"


class TestTheCommandOfOpenClaw:
    def printed(self, settings: RunSettings, environ: Mapping[str, str]) -> str:
        found = re.search(
            r"(?m)^  (.*) node run --host 127.0.0.1 --port 18789$", text(settings, environ)
        )
        assert found is not None
        return found[1]

    def test_the_command_is_called_by_name_if_path_has_it(
        self, settings: RunSettings, tmp_path: Path
    ) -> None:
        program(tmp_path / "openclaw")
        assert self.printed(settings, {"PATH": str(tmp_path)}) == "openclaw"

    def test_the_command_that_make_installed_is_used_next(
        self, settings: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "it's installed"
        programs = package / "node_modules" / ".bin"
        programs.mkdir(parents=True)
        program(programs / "openclaw")
        monkeypatch.setattr(module, "OPENCLAW_PACKAGE", package)
        command = self.printed(settings, {"PATH": os.defpath})
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} node run"], capture_output=True, check=True, text=True
        )
        assert done.stdout == "node run\n"

    def test_without_an_installation_npx_runs_the_tested_release(
        self, settings: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "OPENCLAW_PACKAGE", tmp_path / "nothing")
        command = self.printed(settings, {"PATH": os.defpath})
        assert re.fullmatch(r"npx --yes openclaw@\d+\.\d+\.\d+", command)


def program(file: Path) -> None:
    """Write a program that prints its arguments."""
    file.write_text('#!/bin/sh\necho "$@"\n')
    file.chmod(0o700)
