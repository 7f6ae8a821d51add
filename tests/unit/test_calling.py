"""Hints name the command as it can be typed where they are read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.calling import LAUNCHER, latchkey
from tests.unit.cli.fake_api import DEVICE_ID, paired, pending, run, serving

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]


def test_the_command_is_called_by_name_if_path_has_it() -> None:
    assert (
        latchkey({"PATH": str(LAUNCHER.parent), "LATCHKEY_COMMAND": "bin/latchkey"}) == "latchkey"
    )


def test_the_name_it_was_called_by_is_used(tmp_path: Path) -> None:
    other = tmp_path / "latchkey"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    environ = {"PATH": str(tmp_path), "LATCHKEY_COMMAND": "../a b/latchkey"}
    assert latchkey(environ) == "'../a b/latchkey'"


def test_otherwise_the_path_of_the_launcher_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    assert latchkey({}) == "bin/latchkey"
    monkeypatch.chdir(tmp_path)
    assert latchkey({}) == str(LAUNCHER)


def test_the_launcher_tells_how_it_was_called() -> None:
    output = launched("devices", "remove", "--help")
    assert output.stdout.startswith("Usage: bin/latchkey devices remove ")
    assert "    bin/latchkey devices remove eb62" in output.stdout


def test_without_its_packages_it_says_what_to_run(tmp_path: Path) -> None:
    bare = tmp_path / "python3"
    bare.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" -S "$@"\n')
    bare.chmod(0o755)
    clone = tmp_path / "clone"
    (clone / "bin").mkdir(parents=True)
    (clone / "bin/latchkey").write_text(LAUNCHER.read_text())
    (clone / "bin/latchkey").chmod(0o755)
    for part in ("services", "shared"):
        (clone / part).symlink_to(ROOT / part)
    output = launched("--help", cwd=clone, path=str(tmp_path))
    assert output.returncode == 1
    assert "not installed here yet" in output.stderr
    assert "make run" in output.stderr
    assert "Traceback" not in output.stderr


def launched(*arguments: str, cwd: Path = ROOT, path: str = "") -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.pathsep.join(filter(None, (path, os.defpath)))}
    return subprocess.run(
        ["bin/latchkey", *arguments],  # noqa: S607  as people type it
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hint_keeps_the_options_that_say_where_approval_is(tmp_path: Path) -> None:
    file = tmp_path / "it is here"
    with serving() as api:
        api.wait_with(pending())
        api.say("GET", "/v1/devices", {"devices": [paired()]})
        result = run(api, "devices", "remove", DEVICE_ID[:8], "--secrets", str(file))
    assert f"latchkey devices remove {DEVICE_ID} --yes --secrets '{file}'" in result.stderr
