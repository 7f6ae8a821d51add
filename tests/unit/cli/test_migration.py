"""`latchkey import openclaw` and `export openclaw`: what they refuse to read, and how they fail."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from services.approval.imports.records import ImportDevice
from services.cli.commands import import_openclaw
from services.cli.migration import reading
from services.cli.migration.location import locate
from services.cli.migration.reading import read_records
from services.cli.migration.records import RefusedRecord, device_of
from tests.support.openclaw.state import RELEASES, WITH_DATABASE, WITH_FILES, write_database
from tests.support.openclaw.state import write_state as openclaw_state
from tests.unit.cli.fake_api import Api, run
from tests.unit.cli.test_backup import whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

OK_JSON = "application/json"


def error_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 1, result.output
    found: dict[str, Any] = json.loads(result.stdout)["error"]
    return found


def not_imported(api: Api, path: Path) -> dict[str, Any]:
    """Import, which must fail with one sentence before approval is called."""
    error = error_of(run(api, "import", "openclaw", str(path), "--yes", "--json"))
    assert api.asked == []
    assert "\n" not in error["message"]
    return error


def loop(path: Path) -> None:
    path.symlink_to(path)


def no_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")
        connection.commit()


def no_pairing_table(path: Path) -> None:
    write_database(path, more="ALTER TABLE device_pairing_paired DROP COLUMN public_key;")


def endless_view(path: Path) -> None:
    write_database(
        path,
        more="DROP TABLE device_pairing_paired; CREATE VIEW device_pairing_paired AS "
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n;",
    )


def truncated(path: Path) -> None:
    write_database(path)
    path.write_bytes(path.read_bytes()[:6000])


def huge_value(path: Path) -> None:
    write_database(
        path,
        more="UPDATE device_pairing_paired SET tokens_json = printf('%.*c', 2000000, 'x');",
    )


def newer(path: Path) -> None:
    write_database(path, more="PRAGMA user_version = 19;")


class TestUnreadable:
    @pytest.mark.parametrize(
        ("make", "name", "says"),
        [
            (lambda _path: None, "not-read", "does not exist"),
            (lambda path: path.mkdir(), "not-openclaw", "has no pairing records of OpenClaw"),
            (loop, "not-read", "its symbolic links form a loop"),
            (os.mkfifo, "not-openclaw", "neither a file nor a directory"),
            (lambda path: path.write_text(""), "openclaw-damaged", "damaged or incomplete"),
            (lambda path: path.write_text('{"a": {'), "openclaw-damaged", "incomplete"),
            (lambda path: path.write_bytes(b'{"\xff": {}}'), "openclaw-damaged", "damaged"),
            (lambda path: path.write_text("[" * 5000), "openclaw-damaged", "damaged"),
            (lambda path: path.write_text("[]"), "not-openclaw", "not a file of pairing records"),
            (lambda path: path.write_text('{"a": 1}'), "not-openclaw", "no objects by id"),
            (no_table, "openclaw-unknown", "not the database of an OpenClaw release"),
            (no_pairing_table, "openclaw-unknown", "has no public_key"),
            (endless_view, "openclaw-unknown", "not the database of an OpenClaw release"),
            (truncated, "openclaw-damaged", "damaged or incomplete"),
            (huge_value, "openclaw-damaged", "damaged or incomplete"),
            (newer, "openclaw-unknown", "newer than 2026.9.6"),
        ],
    )
    def test_it_says_so_in_one_sentence(
        self, api: Api, tmp_path: Path, make: Callable[[Path], object], name: str, says: str
    ) -> None:
        make(tmp_path / "state")
        error = not_imported(api, tmp_path / "state")
        assert error["name"] == name
        assert says in error["message"]

    def test_a_database_that_is_locked(
        self, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.cli.migration.database.LOCK_SECONDS", 0.1)
        file = write_database(tmp_path / "openclaw.sqlite")
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as holder:
            holder.execute("PRAGMA locking_mode = EXCLUSIVE")
            holder.execute("BEGIN EXCLUSIVE")
            error = not_imported(api, file)
        assert error["name"] == "openclaw-locked"
        assert error["advice"] == ["Stop it, and run this again. Nothing was changed."]

    def test_a_directory_that_is_read_only(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is written beside the database, unless its newest changes are there already."""
        file = write_database(tmp_path / "openclaw.sqlite")
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert len(read_records(locate(file), with_tokens=True).devices) == 5
        assert [one.name for one in tmp_path.iterdir()] == ["openclaw.sqlite"]
        with contextlib.closing(sqlite3.connect(file)) as openclaw:
            openclaw.execute("DELETE FROM device_pairing_paired WHERE role = 'node'")
            openclaw.commit()
            assert len(read_records(locate(file), with_tokens=True).devices) == 3

    def test_an_sqlite_that_is_too_old(
        self, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
        error = not_imported(api, write_database(tmp_path / "openclaw.sqlite"))
        assert error["name"] == "sqlite-too-old"

    def test_too_many_devices(
        self, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "DEVICES_LIMIT", 4)
        for release in RELEASES:
            error = not_imported(api, openclaw_state(release, tmp_path / release))
            assert error["name"] == "too-large"
            assert "at most 4 can be imported" in error["message"]

    def test_a_file_that_is_too_large(
        self, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "FILE_LIMIT_BYTES", 1_000)
        error = not_imported(api, openclaw_state(WITH_FILES, tmp_path / "state"))
        assert error["name"] == "too-large"

    def test_a_hundred_thousand_devices(self, api: Api, tmp_path: Path) -> None:
        record = {"publicKey": "k", "roles": ["operator"], "createdAtMs": 1, "approvedAtMs": 1}
        file = tmp_path / "paired.json"
        file.write_bytes(msgspec.json.encode({f"{n:064x}": record for n in range(100_000)}))
        assert not_imported(api, file)["name"] == "too-large"


def record(**changed: Any) -> dict[str, Any]:
    return {
        "deviceId": "d" * 64,
        "publicKey": "WmrnjgUFzYZd_RUE8IGumZKSuxK7we2NlVZo3OpnXfM",
        "role": "operator",
        "roles": ["operator"],
        "scopes": ["operator.read"],
        "tokens": {"operator": {"token": "secret", "scopes": ["operator.read"], "createdAtMs": 1}},
        "createdAtMs": 1,
        "approvedAtMs": 2,
        **changed,
    }


class TestRecords:
    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"publicKey": "short"}, "its public key is invalid"),
            ({"publicKey": 7}, "its public key is invalid"),
            ({"roles": ["root"]}, "its role 'root' is unknown"),
            ({"roles": [["operator"]]}, "is unknown"),
            ({"roles": "operator"}, "its roles are not a list"),
            ({"roles": [], "role": None}, "it has no role"),
            ({"scopes": [1]}, "its scopes are not a list of texts"),
            ({"scopes": ["operator.x"] * 2 + [f"operator.{n}" for n in range(300)]}, "invalid"),
            ({"scopes": ["operator." + "x" * 100]}, "its record is invalid"),
            ({"tokens": []}, "its tokens are not an object"),
            ({"tokens": {"operator": 1}}, "one of its tokens is not an object"),
            ({"tokens": {"root": {"scopes": [], "createdAtMs": 1}}}, "its record is invalid"),
            ({"createdAtMs": "now"}, "its record is invalid"),
            ({"createdAtMs": -1}, "its record is invalid"),
            ({"approvedAtMs": 2**60}, "its record is invalid"),
        ],
    )
    def test_one_of_another_form_is_refused(self, changed: dict[str, Any], why: str) -> None:
        found = device_of(record(**changed), with_tokens=True)
        assert isinstance(found, RefusedRecord)
        assert why in found.why

    def test_texts_that_are_only_shown_are_cut(self) -> None:
        long = record(displayName="n" * 999, operatorLabel="l" * 999, approvedVia="magic")
        found = device_of(long, with_tokens=True)
        assert isinstance(found, ImportDevice)
        assert (len(found.display_name), len(found.operator_label)) == (128, 64)
        assert found.approved_via == "owner"

    def test_tokens_are_left_out_if_they_are_not_wanted(self) -> None:
        for with_tokens in (True, False):
            found = device_of(record(), with_tokens=with_tokens)
            assert isinstance(found, ImportDevice)
            assert found.tokens[0].token == ("secret" if with_tokens else "")

    def test_a_revoked_token_is_left_out(self) -> None:
        revoked = {"token": "secret", "scopes": [], "createdAtMs": 1, "revokedAtMs": 2}
        found = device_of(record(tokens={"operator": revoked}), with_tokens=True)
        assert isinstance(found, ImportDevice)
        assert found.tokens[0].token == ""

    def test_approved_scopes_count_and_not_those_of_the_last_request(self) -> None:
        both = record(scopes=["operator.read", "operator.admin"], approvedScopes=["operator.read"])
        found = device_of(both, with_tokens=True)
        assert isinstance(found, ImportDevice)
        assert found.scopes == ("operator.read",)

    def test_files_that_the_database_has_not_taken_over_yet_are_read_too(
        self, tmp_path: Path
    ) -> None:
        state = openclaw_state(WITH_FILES, openclaw_state(WITH_DATABASE, tmp_path / "state"))
        found = read_records(locate(state), with_tokens=True)
        assert (len(found.devices), found.release, found.pending) == (11, WITH_DATABASE, 2)


def answers_in_turn(api: Api, *answers: tuple[int, str, bytes]) -> None:
    """Answer the calls of an import one after another."""
    call = ("POST", "/v1/import")
    waiting = list(answers)
    api.answers[call] = waiting.pop(0)

    def next_one() -> None:
        if waiting:
            api.answers[call] = waiting.pop(0)

    api.then[call] = next_one


def outcomes(devices: list[ImportDevice], outcome: str = "added") -> tuple[int, str, bytes]:
    found = [{"deviceId": one.device_id, "outcome": outcome} for one in devices]
    return 200, OK_JSON, msgspec.json.encode({"devices": found})


def problem(status: int, name: str, title: str) -> tuple[int, str, bytes]:
    body = {"type": f"urn:latchkey:problem:{name}", "title": title, "status": status, "detail": ""}
    return status, "application/problem+json", msgspec.json.encode(body)


class TestFailures:
    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_openclaw, "PART_LIMIT_DEVICES", 2)
        monkeypatch.setattr(import_openclaw, "RETRY_SECONDS", 0.0)

    @pytest.fixture
    def devices(self, tmp_path: Path) -> list[ImportDevice]:
        state = openclaw_state(WITH_DATABASE, tmp_path / "state")
        return read_records(locate(state), with_tokens=True).devices

    def test_one_in_the_middle_says_exactly_what_was_done(
        self, api: Api, tmp_path: Path, devices: list[ImportDevice]
    ) -> None:
        plan = [outcomes(devices[at : at + 2]) for at in (0, 2, 4)]
        refused = problem(403, "not-allowed", "Not allowed")
        answers_in_turn(api, *plan, outcomes(devices[:2]), refused)
        result = run(api, "import", "openclaw", str(tmp_path / "state"), "--yes", "--json")
        error = error_of(result)
        assert error["message"].endswith("2 of 5 devices were imported.")
        assert error["advice"][-1] == "Run the command again: it adds what is missing."

    def test_an_unknown_outcome_is_asked_for_again(
        self, api: Api, tmp_path: Path, devices: list[ImportDevice]
    ) -> None:
        parts = [outcomes(devices[at : at + 2]) for at in (0, 2, 4)]
        unknown = problem(503, "store-unavailable", "Redis did not answer")
        answers_in_turn(api, *parts, parts[0], unknown, unknown, *parts[1:])
        result = run(api, "import", "openclaw", str(tmp_path / "state"), "--yes", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["counts"]["added"] == 5
        sent = [json.loads(body) for _, _, body in api.asked]
        assert [one["dryRun"] for one in sent[:3]] == [True] * 3
        assert sent[4] == sent[5] == sent[6], "the same call, with the same import id"

    def test_an_outcome_that_stays_unknown(
        self, api: Api, tmp_path: Path, devices: list[ImportDevice]
    ) -> None:
        plan = [outcomes(devices[at : at + 2]) for at in (0, 2, 4)]
        unknown = problem(503, "store-unavailable", "Redis did not answer")
        answers_in_turn(api, *plan, outcomes(devices[:2]), unknown)
        result = run(api, "import", "openclaw", str(tmp_path / "state"), "--yes", "--json")
        assert result.exit_code == 5
        message = json.loads(result.stdout)["error"]["message"]
        assert message.endswith("2 of 5 devices were imported; whether the next 2 were is unknown.")

    def test_only_what_is_added_is_sent_again(
        self, api: Api, tmp_path: Path, devices: list[ImportDevice]
    ) -> None:
        plan = [outcomes(devices[:2], "exists"), outcomes(devices[2:4]), outcomes(devices[4:])]
        answers_in_turn(api, *plan, outcomes(devices[2:4]), outcomes(devices[4:]))
        run(api, "import", "openclaw", str(tmp_path / "state"), "--yes", "--json")
        sent = [json.loads(body) for _, _, body in api.asked][3:]
        ids = [device["deviceId"] for one in sent for device in one["devices"]]
        assert ids == [one.device_id for one in devices[2:]]


def test_names_with_control_characters_are_escaped(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "paired.json"
    name = "\x1b[31mred\u202etxt [bold]"
    file.write_bytes(msgspec.json.encode({"d" * 64: record(displayName=name)}))
    found = read_records(locate(file), with_tokens=True).devices
    api.answers["POST", "/v1/import"] = outcomes(found)
    result = run(api, "import", "openclaw", str(file), "--dry-run")
    assert "\\u001b[31mred\\u202etxt [bold]" in result.stdout
    assert "\x1b" not in result.stdout


class TestExport:
    @pytest.fixture(autouse=True)
    def _backup(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("services.cli.migration.database.LOCK_SECONDS", 0.1)
        api.answers["GET", "/v1/backup"] = (200, "application/jsonl", whole(3))

    def test_an_open_database_is_left_alone(self, api: Api, tmp_path: Path) -> None:
        state = openclaw_state(WITH_DATABASE, tmp_path / "state")
        file = state / "state" / "openclaw.sqlite"
        with contextlib.closing(sqlite3.connect(file)) as openclaw:
            openclaw.execute("SELECT count(*) FROM device_pairing_paired").fetchone()
            result = run(api, "export", "openclaw", str(state), "--yes", "--json")
            assert error_of(result)["name"] == "openclaw-locked"
            dry = run(api, "export", "openclaw", str(state), "--dry-run", "--json")
            assert json.loads(dry.stdout)["added"] == 3
        names = [one.name for one in file.parent.iterdir() if "latchkey" in one.name]
        assert names == []
        assert run(api, "export", "openclaw", str(state), "--yes").exit_code == 0

    def test_a_newer_database_is_left_alone(self, api: Api, tmp_path: Path) -> None:
        file = tmp_path / "openclaw.sqlite"
        newer(file)
        before = file.read_bytes()
        result = run(api, "export", "openclaw", str(file), "--yes", "--json")
        assert error_of(result)["name"] == "openclaw-unknown"
        assert file.read_bytes() == before

    def test_a_write_that_fails_changes_nothing(self, api: Api, tmp_path: Path) -> None:
        file = write_database(
            tmp_path / "openclaw.sqlite",
            more="CREATE TRIGGER t BEFORE INSERT ON device_pairing_paired WHEN (SELECT count(*) "
            "FROM device_pairing_paired) >= 7 BEGIN SELECT RAISE(ABORT, 'full'); END;",
        )
        result = run(api, "export", "openclaw", str(file), "--yes", "--json")
        assert "full" in error_of(result)["message"]
        with contextlib.closing(sqlite3.connect(file)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM device_pairing_paired").fetchone()
        assert count == 5
        assert [one.name for one in tmp_path.iterdir() if "before" in one.name] == []

    def test_a_file_is_replaced_as_a_whole_and_its_copy_kept(
        self, api: Api, tmp_path: Path
    ) -> None:
        state = openclaw_state(WITH_FILES, tmp_path / "state")
        file = state / "devices" / "paired.json"
        before = file.read_bytes()
        result = run(api, "export", "openclaw", str(state), "--yes", "--json")
        done = json.loads(result.stdout)
        assert (done["added"], done["exists"]) == (3, 0)
        after = json.loads(file.read_bytes())
        assert len(after) == 9
        assert json.loads(before).items() <= after.items()
        with open(done["copy"], "rb") as copy:  # noqa: PTH123 (a text)
            assert copy.read() == before

    def test_where_there_is_nothing(self, api: Api, tmp_path: Path) -> None:
        missing = run(api, "export", "openclaw", str(tmp_path / "no"), "--yes", "--json")
        assert error_of(missing)["name"] == "not-written"
        new = run(api, "export", "openclaw", str(tmp_path / "new.json"), "--yes", "--json")
        assert new.exit_code == 0, new.output
        assert len(read_records(locate(tmp_path / "new.json"), with_tokens=True).devices) == 3
