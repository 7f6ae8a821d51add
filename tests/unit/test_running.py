"""Tools find what `make run` started through the file it writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from deploy.local import run_file
from deploy.local.places import ROOT
from shared import running
from shared.running import Running, default_secrets_file, find_run

if TYPE_CHECKING:
    from pathlib import Path

ADDRESSES = {
    "GATEWAY_URL": "ws://127.0.0.1:28789",
    "APPROVAL_URL": "http://127.0.0.1:28790",
    "APPROVAL_PUBLIC_URL": "https://approve.example",
}
HOLDING = """
import sys, time
from pathlib import Path
from deploy.local.run_file import run_file
with run_file(Path(sys.argv[1]), {"GATEWAY_URL": "ws://127.0.0.1:1",
        "APPROVAL_URL": "http://127.0.0.1:2", "APPROVAL_PUBLIC_URL": "http://127.0.0.1:2"}):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_is_found_while_it_lasts_and_not_after(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.env"
    with run_file.run_file(tmp_path, ADDRESSES):
        run = find_run(secrets)
        assert run == Running(*ADDRESSES.values())
        assert run.approval_page == "https://approve.example/setup"
        assert find_run(secrets) == run
    assert find_run(secrets) is None
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_killed_run_counts_for_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert find_run(tmp_path / "secrets.env") is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "run.env").exists()
    assert find_run(tmp_path / "secrets.env") is None
    with run_file.run_file(tmp_path, ADDRESSES):
        found = find_run(tmp_path / "secrets.env")
        assert found is not None
        assert found.gateway_url == ADDRESSES["GATEWAY_URL"]


@pytest.mark.parametrize(
    "spoiled",
    [
        {**ADDRESSES, "APPROVAL_URL": ""},
        {**ADDRESSES, "GATEWAY_URL": "127.0.0.1:1"},
        {**ADDRESSES, "APPROVAL_PUBLIC_URL": "http://[::1"},
        {},
    ],
)
def test_a_file_without_sound_addresses_counts_for_nothing(
    tmp_path: Path, spoiled: dict[str, str]
) -> None:
    with run_file.run_file(tmp_path, spoiled):
        assert find_run(tmp_path / "secrets.env") is None


def test_what_is_no_readable_file_counts_for_nothing(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.env"
    (tmp_path / "run.env").mkdir()
    assert find_run(secrets) is None
    assert find_run(secrets / "below-a-file.env") is None


def test_a_gateway_of_the_run_is_known_however_it_is_written() -> None:
    run = Running(*ADDRESSES.values())
    assert run.is_gateway("ws://localhost:28789/chat")
    assert run.is_gateway("http://127.0.0.1:28789")
    assert not run.is_gateway("ws://127.0.0.1:18789")
    assert not run.is_gateway("wss://127.0.0.1:28789")


def test_the_runner_and_the_tools_mean_the_same_file() -> None:
    assert running.RUN_FILE == run_file.RUN_FILE
    assert default_secrets_file({}).resolve() == (running.INSTALLATION / running.SECRETS_FILE)
    assert default_secrets_file({"DATA_DIR": "/elsewhere"}).parent == type(running.SECRETS_FILE)(
        "/elsewhere"
    )


def test_the_secrets_of_the_installation_are_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_secrets_file({}) == running.INSTALLATION / running.SECRETS_FILE
    here = tmp_path / running.SECRETS_FILE
    here.parent.mkdir()
    here.touch()
    assert default_secrets_file({}).resolve() == here


def test_the_file_can_be_read_by_a_shell(tmp_path: Path) -> None:
    with run_file.run_file(tmp_path, ADDRESSES):
        output = subprocess.run(
            ["/bin/sh", "-c", '. "$0"; echo "$GATEWAY_URL $APPROVAL_URL"', tmp_path / "run.env"],
            capture_output=True,
            check=True,
            text=True,
            env={"PATH": os.defpath},
        )
    assert output.stdout == "ws://127.0.0.1:28789 http://127.0.0.1:28790\n"
