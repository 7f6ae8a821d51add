"""Unusable files and invalid addresses: one sentence each, without a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from deploy.local.places import ROOT
from tests.support.read_only import read_only

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECONDS: Final = 60
SENTENCE_CHARACTERS: Final = 400
TOKENS: Final = {
    "OPENCLAW_GATEWAY_TOKEN": "g" * 32,
    "APPROVAL_ADMIN_TOKEN": "a" * 32,
}
RUN: Final = ("-m", "deploy.local")
SECRETS: Final = ("-m", "deploy.compose_secrets")
DEVICE: Final = ("-m", "shared.device")
LATCHKEY: Final = ("-m", "services.cli")
CHURN: Final = ("-m", "tools.load")
BENCH: Final = ("-m", "tools.bench")
NOWHERE: Final = "ws://127.0.0.1:9"


class Ended(NamedTuple):
    status: int
    text: str


def run(words: Sequence[str], ro: Path | None = None, /, **environ: str) -> Ended:
    """Run a tool of the clone; `ro` names a directory that is read-only for it."""
    command: list[str] = [sys.executable, *words]
    if ro is not None:
        command = read_only(ro, command, cwd=ROOT)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environ},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Ended(done.returncode, done.stdout + done.stderr)


def says_in_one_sentence(ended: Ended, *words: str) -> None:
    """Assert that it failed with a one-line message that contains these words."""
    assert ended.status not in {0, 130}, ended
    assert "Traceback" not in ended.text, ended.text
    assert "Errno" not in ended.text, ended.text
    lines = [line for line in ended.text.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, ended.text
    assert len(lines[0]) < SENTENCE_CHARACTERS


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    """Make a file where a directory is needed."""
    file = tmp_path / "a-file"
    file.write_text("not a directory\n")
    return file


@pytest.fixture
def a_directory(tmp_path: Path) -> Path:
    """Make an empty directory."""
    directory = tmp_path / "a-directory"
    directory.mkdir()
    return directory


class TestFilesOfMakeRun:
    def test_a_data_directory_that_is_a_file_is_reported(self, a_file: Path) -> None:
        ended = run(RUN, DATA_DIR=str(a_file))
        says_in_one_sentence(ended, f"{a_file} is a file, but must be a directory", "DATA_DIR")

    def test_a_data_directory_below_a_file_is_reported(self, a_file: Path) -> None:
        ended = run(RUN, DATA_DIR=str(a_file / "data"))
        says_in_one_sentence(ended, "is below a file", "DATA_DIR")

    def test_a_read_only_data_directory_is_reported(self, a_directory: Path) -> None:
        ended = run(RUN, a_directory, DATA_DIR=str(a_directory))
        says_in_one_sentence(ended, str(a_directory / "lock"), "cannot be", "DATA_DIR")

    def test_a_data_directory_in_a_read_only_one_is_reported(self, a_directory: Path) -> None:
        ended = run(RUN, a_directory, DATA_DIR=str(a_directory / "data"))
        says_in_one_sentence(ended, str(a_directory / "data"), "cannot be", "DATA_DIR")

    @pytest.mark.parametrize("name", ["lock", "secrets.env"])
    def test_a_directory_instead_of_a_file_is_reported(self, a_directory: Path, name: str) -> None:
        (a_directory / name).mkdir()
        ended = run(RUN, DATA_DIR=str(a_directory), GATEWAY_PORT="0", APPROVAL_PORT="0")
        says_in_one_sentence(ended, f"{a_directory / name} is a directory, but must be a file")

    @pytest.mark.parametrize("name", ["logs", "redis"])
    def test_a_file_instead_of_a_directory_is_reported(self, a_directory: Path, name: str) -> None:
        (a_directory / name).write_text("")
        ended = run(RUN, DATA_DIR=str(a_directory), GATEWAY_PORT="0", APPROVAL_PORT="0")
        says_in_one_sentence(ended, str(a_directory / name), "must be a directory")

    def test_a_secrets_file_that_is_not_text_is_reported(self, a_directory: Path) -> None:
        (a_directory / "secrets.env").write_bytes(b"# made once\nTOKEN_SECRET=\xff\xfe\n")
        ended = run(RUN, DATA_DIR=str(a_directory), GATEWAY_PORT="0", APPROVAL_PORT="0")
        says_in_one_sentence(ended, "secrets.env, line 2")

    def test_run_env_as_a_directory_is_reported(self, a_directory: Path) -> None:
        (a_directory / "run.env").mkdir()
        ended = run(RUN, DATA_DIR=str(a_directory), GATEWAY_PORT="0", APPROVAL_PORT="0")
        says_in_one_sentence(ended, "run.env is a directory, but must be a file")
        assert not list(a_directory.glob(".run.env*"))

    def test_a_read_only_clone_is_reported(self, a_directory: Path) -> None:
        for name in ("Makefile", "requirements.txt"):
            (a_directory / name).write_text((ROOT / name).read_text())
        command = ["/bin/sh", "-c", "exec make run 2>&1"]
        done = subprocess.run(
            read_only(a_directory, command, cwd=a_directory),
            cwd=a_directory,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode != 0
        assert "This directory is not writable" in done.stdout
        assert "Traceback" not in done.stdout


class TestFilesOfTheOtherTools:
    @pytest.mark.parametrize("name", ["device.json", "below/device.json"])
    def test_a_devices_key_that_cannot_be_stored_is_reported(
        self, a_directory: Path, name: str
    ) -> None:
        state = a_directory / name
        ended = run([*DEVICE, NOWHERE, "--state", str(state)], a_directory)
        says_in_one_sentence(ended, f"cannot write {state}", "--state")

    def test_a_devices_key_below_a_file_is_reported(self, a_file: Path) -> None:
        ended = run([*DEVICE, NOWHERE, "--state", str(a_file / "device.json")])
        says_in_one_sentence(ended, "cannot read", "--state")

    def test_a_devices_key_that_is_a_directory_is_reported(self, a_directory: Path) -> None:
        ended = run([*DEVICE, NOWHERE, "--state", str(a_directory)])
        says_in_one_sentence(ended, f"cannot read {a_directory}", "--state")

    @pytest.mark.parametrize("option", ["--json", "--html"])
    def test_a_report_of_churn_is_tried_before_the_load(
        self, a_directory: Path, a_file: Path, option: str
    ) -> None:
        in_read_only = run([*CHURN, option, str(a_directory / "r")], a_directory)
        says_in_one_sentence(in_read_only, "Not run:", str(a_directory / "r"), "cannot be")
        below = run([*CHURN, option, str(a_file / "r")])
        says_in_one_sentence(below, "Not run:", "is below a file")
        says_in_one_sentence(run([*CHURN, option, str(a_directory)]), "Not run:", "is a directory")

    @pytest.mark.parametrize("tool", [CHURN, (*BENCH, "--rounds", "1")])
    def test_a_missing_temporary_directory_is_reported(
        self, a_file: Path, tool: Sequence[str]
    ) -> None:
        script = "import runpy, sys, tempfile; tempfile.tempdir = sys.argv.pop(1); "
        script += "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
        ended = run(["-c", script, str(a_file), *tool[1:]])
        says_in_one_sentence(ended, "is below a file")

    def test_secrets_for_compose_that_cannot_be_written_are_reported(self, a_file: Path) -> None:
        script = "from pathlib import Path; from deploy.compose_secrets import main; "
        script += f"raise SystemExit(main(Path({str(a_file / '.env')!r})))"
        says_in_one_sentence(run(["-c", script]), "No secrets were generated:", "is below a file")

    @pytest.mark.parametrize("where", ["read-only", "below a file"])
    def test_a_backup_that_cannot_be_written_is_reported(
        self, a_directory: Path, a_file: Path, where: str
    ) -> None:
        target = (a_directory if where == "read-only" else a_file) / "backup.jsonl"
        ended = run([*LATCHKEY, "backup", str(target)], a_directory, **TOKENS)
        assert ended.status != 0
        assert "Traceback" not in ended.text


WRONG: Final = {
    "127.0.0.1:18790": "has no scheme: write http://127.0.0.1:18790",
    "localhost:18790": "has no scheme: write http://localhost:18790",
    "approve.example": "has no scheme: write https://approve.example",
    "http://127.0.0.1:18790/setup": "is the address of the page: leave out /setup",
    "http://127.0.0.1:18790/setup/": "is the address of the page: leave out /setup",
    "ftp://approve.example": "does not start with https:// or http://",
    "http://127.0.0.1:99999": "the port must be a number",
    "http://[::1": "must be in brackets",
    "http://user:word@127.0.0.1": "leave them out",
}
"""Invalid addresses of approval, and the message for each."""
WRONG_GATEWAYS: Final = {
    "127.0.0.1:18789": "has no scheme: write ws://127.0.0.1:18789",
    "ftp://gateway.example": "does not start with",
    "ws://": "names no host",
    "ws://127.0.0.1:99999": "the port must be a number",
    "ws://[::1": "must be in brackets",
}


@pytest.mark.parametrize(("address", "expected"), WRONG.items())
class TestAddressesOfApproval:
    def test_latchkey_reports_an_invalid_address_in_one_sentence(
        self, address: str, expected: str
    ) -> None:
        says_in_one_sentence(run([*LATCHKEY, "devices", "list"], APPROVAL_URL=address), expected)
        given = run([*LATCHKEY, "devices", "list", "--approval-url", address])
        says_in_one_sentence(given, expected)

    def test_churn_reports_an_invalid_address_in_one_sentence(
        self, address: str, expected: str
    ) -> None:
        ended = run([*CHURN, "--url", NOWHERE], APPROVAL_URL=address, **TOKENS)
        says_in_one_sentence(ended, "Not run:", expected)
        given = run([*CHURN, "--url", NOWHERE, "--approval-url", address], **TOKENS)
        says_in_one_sentence(given, "Not run:", expected)


@pytest.mark.parametrize(("address", "expected"), WRONG_GATEWAYS.items())
class TestAddressesOfAGateway:
    def test_a_device_reports_an_invalid_address_in_one_sentence(
        self, address: str, expected: str, tmp_path: Path
    ) -> None:
        ended = run([*DEVICE, address, "--state", str(tmp_path / "device.json")])
        says_in_one_sentence(ended, expected)

    def test_churn_reports_an_invalid_address_in_one_sentence(
        self, address: str, expected: str
    ) -> None:
        says_in_one_sentence(run([*CHURN, "--url", address], **TOKENS), "Not run:", expected)

    def test_the_doctor_reports_an_invalid_address_as_a_usage_error(
        self, address: str, expected: str
    ) -> None:
        del expected
        ended = run([*LATCHKEY, "doctor", address])
        assert ended.status == 2
        assert "Traceback" not in ended.text
        assert re.search(r"(?m)^Error: that is not an address like", ended.text)
