"""`latchkey backup` and `restore` against a scripted approval API."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.backup.format import Writer
from services.approval.domain.records import Metadata, Pairing, Record, Token
from services.cli.commands.backup import PART_LIMIT_BYTES
from tests.support.approval.devices import Device
from tests.unit.cli.fake_api import Api, run

if TYPE_CHECKING:
    from pathlib import Path

NAME = "\u30ad\u30c3\u30c1\u30f3 " * 16
DEVICES = 150


def whole(count: int = DEVICES) -> bytes:
    """Return a backup of this many devices."""
    writer = Writer()
    lines = [writer.head(1_795_328_627_349)]
    for _ in range(count):
        device = Device.new()
        about = Metadata("cli", "cli", "linux", "Linux", NAME)
        token = Token("t", ("operator.read",), 1, token_generation="e")
        pairing = Pairing(about, "operator", ("operator",), token.scopes, {"operator": token}, 1, 1)
        record = Record(device.device_id, device.public_key, pairing)
        lines.append(writer.device(device.device_id, record, None))
    return b"".join([*lines, writer.end(41)])


def says(api: Api, text: bytes) -> None:
    api.answers["GET", "/v1/backup"] = (200, "application/jsonl", text)


def parts(api: Api) -> list[dict[str, Any]]:
    return [json.loads(body) for _, path, body in api.asked if path == "/v1/restore"]


class TestBackup:
    def test_a_whole_one_is_written_for_its_owner_alone(self, api: Api, tmp_path: Path) -> None:
        says(api, whole(2))
        file = tmp_path / "b.jsonl"
        result = run(api, "backup", str(file), "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["devices"] == 2
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    @pytest.mark.parametrize("text", [b"", whole(2)[:-1], whole(2)[:300], b"{}\n"])
    def test_what_is_not_whole_takes_no_name(self, api: Api, tmp_path: Path, text: bytes) -> None:
        says(api, text)
        old = tmp_path / "b.jsonl"
        old.write_text("the one of yesterday")
        result = run(api, "backup", str(old), "--replace", "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout)["error"]["name"] == "broken-backup"
        assert [file.name for file in tmp_path.iterdir()] == ["b.jsonl"]
        assert old.read_text() == "the one of yesterday"

    def test_one_that_is_there_stays(self, api: Api, tmp_path: Path) -> None:
        says(api, whole(1))
        old = tmp_path / "b.jsonl"
        old.write_text("old")
        assert run(api, "backup", str(old)).exit_code == 1
        assert old.read_text() == "old"
        assert run(api, "backup", str(old), "--replace").exit_code == 0

    def test_where_nothing_can_be_written(self, api: Api, tmp_path: Path) -> None:
        says(api, whole(1))
        result = run(api, "backup", str(tmp_path / "nowhere" / "b.jsonl"), "--json")
        assert json.loads(result.stdout)["error"]["name"] == "not-written"


class TestRestore:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "b.jsonl"
        file.write_bytes(whole())
        return file

    def test_a_restore_is_sent_in_parts_that_fit(self, api: Api, file: Path) -> None:
        api.say("POST", "/v1/restore", {"done": 0, "skipped": 0})

        def on() -> None:
            sent = parts(api)[-1]
            done = sent["at"] + len(sent["devices"])
            api.say("POST", "/v1/restore", {"done": min(DEVICES, done + 1), "skipped": 1})

        api.then["POST", "/v1/restore"] = on
        result = run(api, "restore", str(file), "--yes", "--json")
        assert result.exit_code == 0, result.output
        sent = parts(api)
        assert len(sent) > 2
        assert {frame["total"] for frame in sent} == {DEVICES}
        assert len({frame["backupId"] for frame in sent}) == 1
        sizes = [len(body.encode()) for _, path, body in api.asked if path == "/v1/restore"]
        assert max(sizes) < PART_LIMIT_BYTES + 1_000, "as UTF-8, not escaped"

    def test_a_restore_continues_where_an_earlier_try_stopped(self, api: Api, file: Path) -> None:
        api.say("POST", "/v1/restore", {"done": DEVICES - 1, "skipped": 0})
        api.then["POST", "/v1/restore"] = lambda: api.say(
            "POST", "/v1/restore", {"done": DEVICES, "skipped": 0}
        )
        assert run(api, "restore", str(file), "--yes").exit_code == 0
        assert [part["at"] for part in parts(api)] == [0, DEVICES - 1]

    def test_without_a_yes_nothing_is_sent(self, api: Api, file: Path) -> None:
        assert run(api, "restore", str(file)).exit_code == 6
        assert parts(api) == []

    def test_what_is_broken_is_not_sent(self, api: Api, file: Path) -> None:
        file.write_bytes(file.read_bytes()[:-2])
        assert run(api, "restore", str(file), "--yes").exit_code == 1
        assert api.asked == []

    def test_unknown_is_said_and_may_be_repeated(self, api: Api, file: Path) -> None:
        api.problem("POST", "/v1/restore", 503, "store-unavailable")
        assert run(api, "restore", str(file), "--yes").exit_code == 5
