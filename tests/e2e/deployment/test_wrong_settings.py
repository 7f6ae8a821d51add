"""A service with a wrong setting exits with code 78 and one message: no traceback, no secret."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shared.server.run import EXIT_SETTINGS

SECRET = "hush-hush-hush-hush-hush-hush-hush"
SOUND = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "BUS_SECRET": SECRET,
    "OPENCLAW_GATEWAY_TOKEN": SECRET,
    "APPROVAL_ADMIN_TOKEN": SECRET,
    "TOKEN_SECRET": SECRET,
    "HOST": "127.0.0.1",
    "PORT": "0",
}
WRONG = [
    ("REDIS_URL", f"redis://user:{SECRET}#@host:6379/0", "percent-encode"),
    ("REDIS_URL", f"redis://user:{SECRET}/@host:6379/0", "percent-encode"),
    ("REDIS_URL", f"redis://user:{SECRET}?@host:6379/0", "percent-encode"),
    ("REDIS_URL", f"redis://:{SECRET}@127.0.0.1:1/0?socket_timeout=x", "`socket_timeout`"),
    ("REDIS_URL", f"redis://:{SECRET}@127.0.0.1:1/0?foo=bar", "`foo`"),
    ("REDIS_URL", f"redis://:{SECRET}@127.0.0.1:1/x", "database number"),
    ("REDIS_URL", "unix:///tmp/redis.sock", "Unix socket"),
    ("HOST", "no.such.host.invalid", "HOST"),
    ("HOST", "..", "HOST"),
    ("HOST", ",", "HOST"),
    ("PORT", "http", "PORT"),
    ("LOG_LEVEL", "loud", "LOG_LEVEL"),
    ("TRUSTED_PROXIES", "everybody", "TRUSTED_PROXIES"),
]


@pytest.mark.parametrize("service", ["gateway", "approval"])
@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_a_wrong_setting_ends_a_service_with_78_and_one_message(
    service: str, name: str, value: str, expected: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env={"PATH": os.environ["PATH"], **SOUND, name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == EXIT_SETTINGS, ended.stderr
    first, problem = ended.stderr.splitlines()
    assert first.endswith("cannot start:")
    assert name in problem
    assert expected in problem
    assert "hush" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {"APPROVAL_URL": "redis"},
        {"APPROVAL_URL": f"http://user:{SECRET}@host"},
        {"APPROVAL_URL": "http://[::1"},
        {"APPROVAL_URL": "http://..:1"},
        {"APPROVAL_ADMIN_TOKEN": f"{SECRET}\nX: y"},
        {"HOST": "[", "PORT": "x", "TOKEN_SECRET": SECRET},
    ],
)
def test_a_wrong_setting_of_the_command_is_reported_as_such(
    environ: dict[str, str],
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli", "devices", "list"],
        env={"PATH": os.environ["PATH"], "APPROVAL_ADMIN_TOKEN": SECRET, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "APPROVAL_" in ended.stderr.splitlines()[-1]
    assert "hush" not in ended.stdout + ended.stderr
