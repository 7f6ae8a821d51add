"""A backup file is read completely or not at all."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from msgspec.structs import replace

from services.approval.backup.format import BrokenBackup, Writer, read
from services.approval.backup.records import (
    BackupDevice,
    last_seen_of,
    record_of,
    to_backup,
    unsound,
)
from services.approval.domain.records import (
    AuditEntry,
    Identity,
    LastSeen,
    Metadata,
    Pairing,
    Record,
    Token,
)
from tests.support.approval.devices import Device

SEEN = LastSeen(1_700_000_000_500, "connect", "203.0.113.9", {"operator": 1_700_000_000_400})


def record(device: Device) -> Record:
    """Return a paired device of two roles, one of them revoked."""
    return Record(
        device.device_id,
        device.public_key,
        Pairing(
            metadata=Metadata("cli", "cli", "linux", "Linux", "K\u00fcche \u2028", "203.0.113.9"),
            role="operator",
            roles=("operator", "node"),
            scopes=("operator.read", "node.run"),
            tokens={
                "node": Token("", ("node.run",), 5, revoked_at_ms=7),
                "operator": Token("t1", ("operator.read",), 5, 6, token_generation="e1"),
            },
            created_at_ms=5,
            approved_at_ms=6,
            operator_label="Kitchen",
        ),
    )


def whole(*devices: Device) -> list[bytes]:
    """Return the lines of a backup of these records, with one audit entry."""
    writer = Writer()
    return [
        writer.head(1_700_000_001_000),
        *(writer.device(device.device_id, record(device), SEEN) for device in devices),
        writer.audit(AuditEntry("approved", devices[0].device_id, "operator", 6, id=2)),
        writer.end(2),
    ]


class TestIdentities:
    def test_all_identities_come_back(self) -> None:
        device = Device.new()
        before = record(device)
        assert before.pairing is not None
        others = (Identity("node", "node-host", "node", "darwin", "Mac", "box"),)
        before = replace(before, pairing=replace(before.pairing, others=others))
        assert before.pairing is not None
        assert record_of(to_backup(before, before.pairing, SEEN)) == before

    def test_the_name_that_it_was_seen_with_is_kept(self) -> None:
        before = record(Device.new()).pairing
        assert before is not None
        seen = replace(SEEN, name="Renamed", named_at=SEEN.at)
        back = to_backup(record(Device.new()), before, seen)
        assert back.pairing.metadata.display_name == "Renamed"


class TestWhole:
    def test_all_of_a_device_comes_back(self) -> None:
        device = Device.new()
        found = read(whole(device))
        (back,) = found.devices.values()
        assert record_of(back) == record(device)
        assert last_seen_of(back) == SEEN
        assert (found.number, found.audit, found.made_at_ms) == (2, 1, 1_700_000_001_000)

    def test_one_that_was_never_seen(self) -> None:
        device = Device.new()
        writer = Writer()
        lines = [writer.head(1), writer.device(device.device_id, record(device), None)]
        (back,) = read([*lines, writer.end(2)]).devices.values()
        assert last_seen_of(back) is None

    def test_its_id_is_that_of_its_bytes(self) -> None:
        lines = whole(Device.new())
        assert read(lines).id == hashlib.sha256(b"".join(lines[:-1]) + b"2 1 1").hexdigest()

    def test_every_line_is_an_object_of_its_own(self) -> None:
        kinds = [next(iter(json.loads(line))) for line in whole(Device.new())]
        assert kinds == ["latchkeyBackup", "device", "audit", "end"]

    def test_the_last_line_of_a_device_counts(self) -> None:
        device, gone = Device.new(), Device.new()
        writer = Writer()
        renamed = record(device)
        assert renamed.pairing is not None
        pairing = msgspec.structs.replace(renamed.pairing, operator_label="Desk")
        renamed = msgspec.structs.replace(renamed, pairing=pairing)
        lines = [
            writer.head(1),
            writer.device(device.device_id, record(device), None),
            writer.device(gone.device_id, record(gone), None),
            writer.device(device.device_id, renamed, None),
            writer.device(gone.device_id, None, None),
            writer.end(9),
        ]
        (back,) = read(lines).devices.values()
        assert record_of(back) == renamed

    def test_an_unreported_device_is_not_removed(self) -> None:
        assert Writer().device(Device.new().device_id, None, None) == b""


class TestBroken:
    @pytest.fixture
    def lines(self) -> list[bytes]:
        return whole(Device.new(), Device.new())

    def test_a_file_cut_anywhere_is_refused(self, lines: list[bytes]) -> None:
        text = b"".join(lines)
        for length in range(len(text)):
            with pytest.raises(BrokenBackup):
                read(text[:length].splitlines(keepends=True))

    def test_a_file_with_a_changed_byte_is_refused(self, lines: list[bytes]) -> None:
        text = b"".join(lines)
        for place in range(0, len(text), 7):
            changed = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
            with pytest.raises(BrokenBackup):
                read(changed.splitlines(keepends=True))

    def test_a_missing_or_repeated_line_is_refused(self, lines: list[bytes]) -> None:
        for place in range(len(lines)):
            with pytest.raises(BrokenBackup):
                read(lines[:place] + lines[place + 1 :])
            with pytest.raises(BrokenBackup):
                read(lines[: place + 1] + lines[place:])

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (b"", "it is empty"),
            (b"{}\n", "line 1: not a Latchkey backup"),
            (b'{"latchkeyBackup":2}\n', "it has format 2, and this release reads 1"),
            (b"\x1f\x8b\x08\n", "line 1: "),
            (b'{"latchkeyBackup":1}\n{}\n', "line 2: unknown content"),
            (b'{"latchkeyBackup":1}\n{"removed":"x"}\n', "line 2: unknown content"),
            (b'{"latchkeyBackup":1}\n{"x":1}\n', "line 2: Object contains unknown field"),
            (b'{"latchkeyBackup":1}\n' + b"[" * 9_999 + b"\n", "line 2: "),
            (b'{"latchkeyBackup":1}\n' + b" " * 2_000_000 + b"\n", "too long for a line"),
            (b'{"latchkeyBackup":1}\n', "incomplete: it ends after 1 lines"),
        ],
    )
    def test_it_says_what_is_wrong(self, text: bytes, why: str) -> None:
        with pytest.raises(BrokenBackup) as broken:
            read(text.splitlines(keepends=True))
        assert why in str(broken.value)


class TestInvalid:
    def sound(self) -> BackupDevice:
        device = Device.new()
        entry = record(device)
        assert entry.pairing is not None
        return to_backup(entry, entry.pairing, SEEN)

    def test_a_device_of_our_own_is_valid(self) -> None:
        assert unsound(self.sound()) == ""

    def test_a_key_that_does_not_match_the_id_is_invalid(self) -> None:
        other = msgspec.structs.replace(self.sound(), public_key=Device.new().public_key)
        assert unsound(other) == "its id does not match its key"

    @pytest.mark.parametrize("key", ["", "x", "A" * 43 + "="])
    def test_a_device_without_a_key_is_invalid(self, key: str) -> None:
        assert unsound(msgspec.structs.replace(self.sound(), public_key=key))

    def test_a_token_for_an_unapproved_role_is_invalid(self) -> None:
        frame = self.sound()
        pairing = msgspec.structs.replace(frame.pairing, roles=("operator",))
        other = msgspec.structs.replace(frame, pairing=pairing)
        assert unsound(other) == "it holds a role that was not approved"

    def test_two_tokens_of_one_role_are_invalid(self) -> None:
        frame = self.sound()
        tokens = (frame.pairing.tokens[0],) * 2
        pairing = msgspec.structs.replace(frame.pairing, tokens=tokens)
        other = msgspec.structs.replace(frame, pairing=pairing)
        assert unsound(other) == "it holds two tokens for one role"

    def test_a_live_token_without_an_id_is_invalid(self) -> None:
        frame = self.sound()
        tokens = tuple(
            msgspec.structs.replace(token, token_id="") for token in frame.pairing.tokens
        )
        pairing = msgspec.structs.replace(frame.pairing, tokens=tokens)
        other = msgspec.structs.replace(frame, pairing=pairing)
        assert unsound(other) == "it holds a token without an id"
