"""A refusal names the page and a command that works as it is printed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from deploy.local.run_file import run_file
from shared import calling
from shared.device import __main__ as command
from shared.device import report
from shared.device.handshake import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def advised(details: dict[str, str], *arguments: str, **environ: str) -> tuple[str, str]:
    """Return the page and the command named in a refused device's output."""
    error = {
        "code": "NOT_PAIRED",
        "message": "pairing required",
        "details": {"code": "PAIRING_REQUIRED", "requestId": "r-1", **details},
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "environ", {"PATH": "/nowhere", **environ})
        given = command.read_arguments([*arguments])
        text = report.advice(Refused(error), command.approval_of(given, Refused(error)))
    page = re.search(r"Manage Devices \(([^)]+)\)", text)
    found = re.search(r"(?m)^  (.*)$", text)
    assert page is not None
    assert found is not None
    return page[1], found[1]


class TestWhereToApprove:
    """A refusal names the page and a command that works as it is printed."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".data").mkdir()

    @pytest.fixture
    def run_here(self, tmp_path: Path) -> Iterator[None]:
        addresses = {
            "GATEWAY_URL": "ws://127.0.0.1:28789",
            "APPROVAL_URL": "http://127.0.0.1:28790",
            "APPROVAL_PUBLIC_URL": "http://127.0.0.1:28790",
        }
        with run_file(tmp_path / ".data", addresses):
            yield

    @pytest.mark.usefixtures("run_here")
    def test_a_device_connects_to_the_local_run_by_default(self) -> None:
        assert command.read_arguments([]).url == "ws://127.0.0.1:28789"
        assert command.read_arguments(["ws://127.0.0.1:1"]).url == "ws://127.0.0.1:1"

    @pytest.mark.usefixtures("run_here")
    def test_the_command_finds_approval_for_a_gateway_of_the_local_run(self) -> None:
        page, typed = advised({"approvalUrl": "http://127.0.0.1:28790"})
        assert page == "http://127.0.0.1:28790/setup"
        assert typed == f"{calling.LAUNCHER} devices approve r-1"

    @pytest.mark.usefixtures("run_here")
    def test_the_command_names_the_approval_of_another_gateway(self) -> None:
        received = {"approvalUrl": "https://approve.example"}
        page, typed = advised(received, "wss://gateway.example")
        assert page == "https://approve.example/setup"
        assert typed.startswith("APPROVAL_URL=https://approve.example /")

    def test_without_a_run_it_names_what_the_gateway_said(self) -> None:
        page, typed = advised({"approvalUrl": "http://127.0.0.1:28790"}, "ws://127.0.0.1:28789")
        assert page == "http://127.0.0.1:28790/setup"
        assert typed.startswith("APPROVAL_URL=http://127.0.0.1:28790 /")
        usual = advised({"approvalUrl": "http://127.0.0.1:18790"}, "ws://127.0.0.1:18789")
        assert usual[1].startswith("/")

    def test_what_the_environment_says_wins(self) -> None:
        received = {"approvalUrl": "https://approve.example"}
        page, typed = advised(received, "wss://x.example", APPROVAL_URL="https://mine.example/")
        assert page == "https://mine.example/setup"
        assert typed.startswith("/")

    @pytest.mark.parametrize(
        "expected", ["http://approve.example", "ftp://x", "$(reboot)", "", "x y"]
    )
    def test_what_a_gateway_says_is_never_put_into_the_command_unchecked(
        self, expected: str
    ) -> None:
        _, typed = advised({"approvalUrl": expected}, "wss://gateway.example")
        assert typed.startswith("APPROVAL_URL=... /")

    def test_a_request_id_is_quoted_for_the_shell(self) -> None:
        error = {"code": "NOT_PAIRED", "details": {"code": "PAIRING_REQUIRED", "requestId": "a;b"}}
        assert "devices approve 'a;b'" in report.advice(Refused(error))
