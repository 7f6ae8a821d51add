from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.errors import BadSetting, OpenClawUnusable
from deploy.local.programs import openclaw as module
from deploy.local.programs.openclaw import OpenClaw
from deploy.local.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECRET = "the-upstream-secret-of-this-machine"
ORIGINS = ["http://127.0.0.1:18789", "https://chat.example"]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Install a Node.js that prints its arguments and one variable."""
    package = tmp_path / "package"
    node = package / "node_modules" / ".bin" / "node"
    node.parent.mkdir(parents=True)
    node.write_text('#!/bin/sh\necho "$OPENCLAW_STATE_DIR" "$@"\n')
    node.chmod(0o700)
    monkeypatch.setattr(module, "OPENCLAW_PACKAGE", package)
    return package


def configured(directory: Path, origins: Sequence[str] = ORIGINS) -> dict[str, Any]:
    OpenClaw(directory, 4000, {}).configure(SECRET, origins)
    settings: dict[str, Any] = json.loads((directory / "openclaw.json").read_text())
    return settings


def test_it_listens_on_loopback_and_trusts_only_the_gateways_headers(tmp_path: Path) -> None:
    gateway = configured(tmp_path / "state")["gateway"]
    assert (gateway["bind"], gateway["auth"]["mode"]) == ("loopback", "trusted-proxy")
    assert gateway["trustedProxies"] == ["127.0.0.1/32"]
    assert gateway["controlUi"]["allowedOrigins"] == ORIGINS
    assert (tmp_path / "state" / "openclaw.json").stat().st_mode & 0o777 == 0o600


def test_a_second_run_keeps_what_the_user_has_set_and_the_password(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    settings = configured(directory)
    password = settings["gateway"]["auth"]["password"]
    settings["models"] = {"mode": "merge"}
    settings["gateway"]["auth"]["token"] = "a token beside it would stop OpenClaw from starting"
    settings["gateway"]["controlUi"]["title"] = "Kitchen"
    (directory / "openclaw.json").write_text(json.dumps(settings))
    again = configured(directory)
    assert again["models"] == {"mode": "merge"}
    assert again["gateway"]["auth"]["password"] == password
    assert "token" not in again["gateway"]["auth"]
    assert again["gateway"]["controlUi"]["title"] == "Kitchen"


def test_lists_keep_what_the_user_added_and_lose_what_an_earlier_run_did(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    gateway = configured(directory)["gateway"]
    gateway["controlUi"]["allowedOrigins"].insert(0, "https://of-the-user.example")
    gateway["trustedProxies"].append("192.0.2.0/24")
    proxy = gateway["auth"]["trustedProxy"]
    required = list(proxy["requiredHeaders"])
    proxy["requiredHeaders"].append("x-of-an-earlier-secret")
    proxy["allowUsers"].append("mallory")
    (directory / "openclaw.json").write_text(json.dumps({"gateway": gateway}))
    elsewhere = ["http://127.0.0.1:28789"]
    for _ in range(2):
        gateway = configured(directory, elsewhere)["gateway"]
        allowed = gateway["controlUi"]["allowedOrigins"]
        assert allowed == [*elsewhere, "https://of-the-user.example"]
        assert gateway["trustedProxies"] == ["127.0.0.1/32", "192.0.2.0/24"]
        proxy = gateway["auth"]["trustedProxy"]
        assert proxy["requiredHeaders"] == required
        assert proxy["allowUsers"] == ["latchkey", "latchkey-relay", "latchkey-cli"]


def test_the_script_runs_openclaw_with_its_state(tmp_path: Path) -> None:
    directory = tmp_path / "it's here"
    configured(directory)
    command = OpenClaw(directory, 4000, {}).command
    printed = subprocess.run(
        [command, "models", "list"], capture_output=True, text=True, check=True
    )
    state, script, *arguments = printed.stdout.replace(str(directory / "state"), "STATE").split()
    assert (state, arguments) == ("STATE", ["models", "list"])
    assert script.endswith("openclaw.mjs")


def test_its_program_gets_the_keys_of_model_providers_and_none_of_our_secrets(
    tmp_path: Path,
) -> None:
    environ = {"OPENAI_API_KEY": "k", "APPROVAL_ADMIN_TOKEN": "s", "PATH": "/bin"}
    program = OpenClaw(tmp_path, 4000, environ).program(tmp_path / "log")
    assert program.env["OPENAI_API_KEY"] == "k"
    assert "APPROVAL_ADMIN_TOKEN" not in program.env


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_configuration_that_cannot_be_read_is_named_and_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / "openclaw.json").write_text(text)
    with pytest.raises(OpenClawUnusable, match=r"openclaw\.json"):
        configured(tmp_path)
    assert (tmp_path / "openclaw.json").read_text() == text


def test_without_an_installation_the_error_says_how_to_install(
    tmp_path: Path, installed: Path
) -> None:
    (installed / "node_modules" / ".bin" / "node").unlink()
    with pytest.raises(OpenClawUnusable, match="make run UPSTREAM=openclaw"):
        configured(tmp_path / "state")


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"UPSTREAM": "other"}, "set UPSTREAM_URL"),
        ({"UPSTREAM": "openclaw", "UPSTREAM_URL": "ws://a"}, "set one of them"),
    ],
)
def test_a_wrong_upstream_is_refused_before_anything_starts(
    environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(BadSetting, match=problem):
        read_settings(environ)
