"""Secrets that are read from files named by variables ending in `_FILE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval import settings as approval
from services.cli.config import Config, with_secret_files
from services.cli.errors import Misused
from services.gateway import settings as gateway
from shared.settings.declarations import Secret, Setting
from shared.settings.environment import SettingsError
from shared.settings.secret_files import FILE_MAX_BYTES, read_secret_files

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {
    "REDIS_URL": "redis://user:password@127.0.0.1:6379/0",
    "WEBHOOK_TARGETS": "json+https://hooks.example/secret-path",
    "WEBHOOK_SECRETS": "whsec_" + "c2Vj" * 10,
    **{
        setting.name: f"{setting.name.lower()}-" + "s" * 32
        for setting in (*gateway.ALL, *approval.ALL)
        if isinstance(setting, Secret)
    },
}
WITH_UPSTREAM = {"UPSTREAM_URL": "ws://openclaw:18789"}


def in_files(directory: Path) -> dict[str, str]:
    """Write every secret to a file with a line break at its end; return the environment."""
    for name, value in VALUES.items():
        (directory / name).write_text(value + "\n")
    return {f"{name}_FILE": str(directory / name) for name in VALUES}


def test_every_secret_of_both_services_may_be_in_a_file(tmp_path: Path) -> None:
    environ = in_files(tmp_path) | WITH_UPSTREAM
    gateway_read = gateway.read_settings(environ)
    approval_read = approval.read_settings(environ)
    assert list(gateway_read.gateway_tokens) == [VALUES["OPENCLAW_GATEWAY_TOKEN"]]
    assert gateway_read.upstream is not None
    assert list(gateway_read.upstream.secrets) == [VALUES["UPSTREAM_SECRET"]]
    assert list(approval_read.admin_tokens) == [VALUES["APPROVAL_ADMIN_TOKEN"]]
    assert list(approval_read.token_secrets) == [VALUES["TOKEN_SECRET"]]
    assert [one.form for one in approval_read.webhooks.targets] == ["json"]
    assert bool(approval_read.webhooks.keys)
    for common in (gateway_read.common, approval_read.common):
        assert common.redis_url == VALUES["REDIS_URL"]
        assert list(common.bus_secrets) == [VALUES["BUS_SECRET"]]


def test_every_setting_with_a_secret_is_tested_here() -> None:
    texts = {
        one.name for one in (*gateway.ALL, *approval.ALL) if isinstance(one, Setting) and one.secret
    }
    assert texts == {"REDIS_URL", "WEBHOOK_TARGETS", "WEBHOOK_SECRETS"}


def test_a_file_may_hold_a_comma_list(tmp_path: Path) -> None:
    environ = in_files(tmp_path)
    (tmp_path / "BUS_SECRET").write_text(f"{'n' * 32},{'o' * 32}\r\n")
    assert list(approval.read_settings(environ).common.bus_secrets) == ["n" * 32, "o" * 32]


def test_all_problems_are_in_one_message_which_quotes_no_content(tmp_path: Path) -> None:
    environ = in_files(tmp_path) | {"TOKEN_SECRET": VALUES["TOKEN_SECRET"], "PORT": "x"}
    (tmp_path / "BUS_SECRET").unlink()
    (tmp_path / "APPROVAL_ADMIN_TOKEN").write_text("hush-" * 10 + "\nsecond line\n")
    (tmp_path / "REDIS_URL").write_bytes(b"hush\xff")
    with pytest.raises(SettingsError) as caught:
        approval.read_settings(environ)
    problems = caught.value.problems
    assert {problem.split(":")[0].split("=")[0] for problem in problems} == {
        *("REDIS_URL_FILE", "BUS_SECRET_FILE", "APPROVAL_ADMIN_TOKEN_FILE"),
        *("TOKEN_SECRET and TOKEN_SECRET_FILE are both set", "PORT"),
    }
    assert f"BUS_SECRET_FILE={tmp_path}/BUS_SECRET" in str(caught.value)
    assert "No such file or directory" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"x" * (FILE_MAX_BYTES + 1), f"larger than {FILE_MAX_BYTES} bytes"),
        (b"\xff" * 40, "UTF-8"),
        (b"one\ntwo\n", "one line"),
        (b"a\x00b", "control characters"),
    ],
)
def test_unusable_contents(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    found, (told,) = read_secret_files({"X_FILE": str(file)}, ["X"])
    assert "X" not in found
    assert problem in told
    assert told.startswith(f"X_FILE={file}: ")


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/", "a\0b", "x" * 5000])
def test_files_that_cannot_be_read_are_named(path: str) -> None:
    _, (told,) = read_secret_files({"X_FILE": path}, ["X"])
    assert told.startswith("X_FILE=")
    assert "cannot be read" in told


@pytest.mark.parametrize("empty", [{"X_FILE": ""}, {"X_FILE": " "}, {}])
def test_an_empty_name_counts_as_not_set(empty: dict[str, str]) -> None:
    environ = {"X": "value", **empty}
    assert read_secret_files(environ, ["X"]) == (environ, [])


def test_an_empty_value_beside_a_file_counts_as_not_set(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("value\n")
    found, problems = read_secret_files({"X": "", "X_FILE": str(file)}, ["X"])
    assert (found["X"], problems) == ("value", [])


def test_the_command_reads_the_files_of_the_service_in_whose_shell_it_is(tmp_path: Path) -> None:
    environ = in_files(tmp_path)
    config = Config(with_secret_files(environ), tmp_path / "none")
    assert config.admin_token == VALUES["APPROVAL_ADMIN_TOKEN"]
    assert config.gateway_token_for("ws://127.0.0.1:1") == VALUES["OPENCLAW_GATEWAY_TOKEN"]
    assert config.is_of_approval


def test_the_command_names_a_file_that_it_cannot_read() -> None:
    with pytest.raises(Misused, match="APPROVAL_ADMIN_TOKEN_FILE=/nowhere"):
        with_secret_files({"APPROVAL_ADMIN_TOKEN_FILE": "/nowhere"})
