from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from deploy.local.places import ROOT
from services.approval.storage import keys, presence
from tools.drills import __main__ as drills
from tools.drills.exits import MISSING
from tools.drills.faults import ALL
from tools.drills.settings import APPROVALS, GATEWAYS

if TYPE_CHECKING:
    from pathlib import Path

    from tools.drills.fault import Fault


def test_what_is_missing_is_named_with_what_installs_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tools.drills"],
        cwd=ROOT,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == MISSING
    assert "redis-server" in ended.stderr
    assert "apt install haproxy redis-server" in ended.stderr
    assert ended.stdout == ""


def test_each_fault_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in ALL]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
def test_a_fault_is_done_to_replicas_or_keys_there_are(fault: Fault) -> None:
    there = {f"gateway-{number + 1}" for number in range(GATEWAYS)}
    there |= {f"approval-{number + 1}" for number in range(APPROVALS)}
    there |= {"", *_declared_keys()}
    assert set(fault.cases) <= there


def _declared_keys() -> set[str]:
    declared = {
        value
        for module in (keys, presence)
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith("latchkey:")
    }
    return declared | {presence.presence_key("*")}


def test_what_forgets_everything_comes_last() -> None:
    assert [fault.promise.forgets for fault in ALL].index(True) == len(ALL) - 1


def test_a_report_that_cannot_be_written_is_said_before_the_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a-file"
    file.write_text("")
    monkeypatch.setattr(drills, "_found", lambda _name: True)
    monkeypatch.setattr(sys, "argv", ["make drill", "--json", str(file / "r.json")])
    assert drills.main() == MISSING
    assert capsys.readouterr().err == (
        f"Not drilled: {file / 'r.json'} is below a file, which must be a directory.\n"
    )
