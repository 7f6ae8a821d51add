"""The file that stores the command's device."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from shared.device.state import StateError, first_of, load, secret_from

if TYPE_CHECKING:
    from pathlib import Path

URL = "ws://127.0.0.1:18789"


def test_a_new_device_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "device.json"
    first, second = load(path), load(path)
    assert first.key.device_id == second.key.device_id


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    path.write_text("{}")
    path.chmod(0o644)
    path.unlink()
    umask = os.umask(0)
    try:
        load(path).save(path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["device.json"]  # noqa: PTH208 (names are enough)


def test_a_file_that_others_could_read_is_closed_when_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    state = load(path)
    path.chmod(0o644)
    state.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_tokens_are_kept_by_gateway_and_role(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    state = load(path)
    state.keep_token(URL, "operator", "a")
    state.keep_token(URL, "node", "b")
    state.keep_token("ws://other", "operator", "c")
    state.keep_token("ws://other", "operator", "d")
    state.keep_token(URL, "node", "")
    state.save(path)

    again = load(path)
    assert again.token(URL, "operator") == "a"
    assert again.token(URL, "node") is None
    assert again.token("ws://other", "operator") == "d"
    assert again.token("ws://third", "operator") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"version":2,"deviceId":"","publicKey":"","privateKey":""}',
        b'{"version":1,"deviceId":"","publicKey":"","privateKey":"AAAA"}',
        b'{"version":1,"deviceId":"","publicKey":"","privateKey":"!"}',
    ],
)
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "device.json"
    path.write_bytes(content)
    with pytest.raises(StateError, match="move it away"):
        load(path)
    assert path.read_bytes() == content


def test_a_position_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot"):
        load(tmp_path / "file" / "device.json")


def test_the_seed_never_prints(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    state = load(path)
    state.keep_token(URL, "operator", "hush")
    secret = json.loads(path.read_text())["privateKey"]
    assert secret not in repr(state)
    assert "hush" not in repr(state)


def test_a_secret_is_read_from_name_value_lines(tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    path.write_text("# a comment\nBUS_SECRET=b\n\nOPENCLAW_GATEWAY_TOKEN=new=1,old\n")
    assert secret_from(path, "OPENCLAW_GATEWAY_TOKEN") == "new=1"
    assert secret_from(path, "BUS_SECRET") == "b"
    assert secret_from(path, "TOKEN_SECRET") is None
    assert secret_from(tmp_path / "none", "BUS_SECRET") is None


@pytest.mark.parametrize(
    ("value", "first"), [("", None), (" , ", None), ("a", "a"), (" a , b", "a"), (",b", "b")]
)
def test_the_first_of_a_comma_list(value: str, first: str | None) -> None:
    assert first_of(value) == first
