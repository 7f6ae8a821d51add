"""Which gateway receives which token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.cli.config import Config

if TYPE_CHECKING:
    from pathlib import Path

OURS = "o" * 32
THEIRS = "t" * 32
HERE = "ws://127.0.0.1:18789"
ELSEWHERE = ("wss://gateway.example", "ws://10.0.0.7:18789", "wss://127.0.0.1.example")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "secrets.env"
    file.write_text(f"OPENCLAW_GATEWAY_TOKEN={OURS}\n")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("url", ELSEWHERE)
def test_the_token_that_make_run_made_goes_to_no_other_machine(file: Path, url: str) -> None:
    around = Config({"DATA_DIR": str(file.parent)})
    assert around.secrets_file == file
    assert around.gateway_token_for(HERE) == OURS
    assert around.gateway_token_for(url) is None


@pytest.mark.parametrize("url", [HERE, *ELSEWHERE])
def test_a_token_or_a_file_that_was_named_goes_where_it_was_meant_to(file: Path, url: str) -> None:
    assert Config({}, file).gateway_token_for(url) == OURS
    around = Config({"OPENCLAW_GATEWAY_TOKEN": THEIRS, "DATA_DIR": str(file.parent)})
    assert around.gateway_token_for(url) == THEIRS
