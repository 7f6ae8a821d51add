"""Gateways on other machines are loaded only on purpose, slowly, and never in the clear."""

from __future__ import annotations

import pytest

from tools.load.client.target import BadTarget, is_loopback, read_target
from tools.load.command import read_command
from tools.load.options import UsageError

REMOTE = ["--url", "wss://gateway.example", "--approval-url", "https://approval.example"]


def test_another_machine_is_loaded_only_with_an_option() -> None:
    with pytest.raises(UsageError, match="--remote"):
        read_command(REMOTE)


def test_the_load_on_another_machine_is_paced() -> None:
    plan = read_command([*REMOTE, "--remote"])
    assert plan.pace == 20
    assert {phase.rate for phase in plan.phases} == {20}
    assert plan.phases[-1].in_flight == 16


@pytest.mark.parametrize(
    "words",
    [
        ["open", "--rate", "1000"],
        ["closed", "--seconds", "600"],
        ["idle", "--connections", "10000"],
    ],
)
def test_the_load_on_another_machine_is_bounded(words: list[str]) -> None:
    with pytest.raises(UsageError, match="--allow-"):
        read_command([*words, *REMOTE, "--remote"])


def test_the_bounds_can_be_raised() -> None:
    plan = read_command(["open", "--rate", "90", *REMOTE, "--remote", "--allow-rate", "100"])
    assert plan.phases[-1].rate == 90


@pytest.mark.parametrize("url", ["ws://gateway.example", "ws://10.0.0.1:18789"])
def test_another_machine_is_not_loaded_in_the_clear(url: str) -> None:
    with pytest.raises(UsageError, match="wss://"):
        read_command(["--url", url, "--remote"])


@pytest.mark.parametrize(
    "url", ["wss://user:secret@gateway.example", "wss://gateway.example/#token=secret"]
)
def test_a_secret_in_the_address_is_refused_and_not_printed(url: str) -> None:
    with pytest.raises(BadTarget) as caught:
        read_target(url)
    assert "secret" not in str(caught.value)


def test_only_loopback_is_this_machine() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.9", "::1"))
    assert not any(is_loopback(host) for host in ("10.0.0.1", "localhost.example", ""))
