"""The scripts that Redis runs, in Python, line by line, over the database in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.database import Word, to_bytes
from tests.simulation.lockout_script import LockoutScript
from tests.simulation.refusing import note_refusals
from tests.simulation.telling import head_of, note_gateway, note_sightings, tell_presence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.database import Database, Entry

_unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


class Scripts:
    """The scripts as Redis runs them: on a database, at a time of its clock in milliseconds.

    `changes_limit`: at most so many changes in an answer to a beat, if that is less than asked for.
    """

    def __init__(self, changes_limit: int = 1_000) -> None:
        self.changes_limit = changes_limit

    def commit(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> list[Any]:
        """Carry out commit.lua."""
        plan: dict[str, Any] = _unpack(to_bytes(args[0]))
        number, tag = head_of(data, keys[0])
        before = tag
        seen = self._seen(data, keys, plan)
        if seen is not None:
            return seen
        if self.is_late(plan["not_after"], now_ms):
            return [b"late", number, tag, b"", b""]
        problem = _problem(data, keys, plan)
        if problem:
            return [problem, number, tag, b"", b""]
        for command, place, words in plan["writes"]:
            given = [args[word - 1] if isinstance(word, int) else word for word in words]
            data.run(command, keys[place - 1], given, now_ms)
        kept = plan["kept"]
        number = max(number, plan["beyond"])
        for new_tag, body, audit in plan["changes"]:
            number += 1
            fields = (b"tag", new_tag.encode(), b"previous", tag)
            entry = (*fields, b"body", to_bytes(args[body - 1]))
            data.append(keys[1], number, entry, kept[0])
            told = (b"entry", to_bytes(args[audit - 1]), b"tag", new_tag.encode())
            data.append(keys[2], number, told, kept[1])
            tag = new_tag.encode()
        if plan["changes"]:
            data.set(keys[0], b"%d:%s" % (number, tag))
        if "call" in plan:
            place, answer, kept_ms = plan["call"]
            value = b"%d:%s\n%s" % (number, tag, to_bytes(args[answer - 1]))
            data.set(keys[place - 1], value, now_ms + kept_ms)
        return [b"done", number, tag, b"", before]

    def beat(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> list[Any]:
        """Carry out beat.lua."""
        beat, base = int(args[1]), int(args[2])
        at = int(data.hashes.get(keys[0], {}).get("at", b"0"))
        moved = False
        if self.builds_on(beat, base, at):
            tell_presence(data, keys[0], args)
            at = beat
            moved = base == 0 or int(args[9]) + int(args[10]) > 0
        version = note_gateway(data, keys, args, now_ms, moved=moved)
        note_sightings(data, keys, args, now_ms)
        return [*self.history(data, keys, args, at, now_ms), version]

    def history(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], at: int, now_ms: int
    ) -> list[Any]:
        """Read what a beat is told: all of beat.lua after the writing."""
        head_key, changes_key = keys[2], keys[3]
        applied, applied_tag = int(args[5]), to_bytes(args[6])
        number, _tag = head_of(data, head_key)
        resync = 0
        if int(args[7]) == 0 or applied > number:
            resync = 1
        elif applied > 0:
            found = data.between(changes_key, applied, 1)
            if not found or found[0][0] != applied or found[0][1][1] != applied_tag:
                resync = 1
        elif number > 0:
            first = data.between(changes_key, 0, 1)
            if not first or first[0][0] != 1:
                resync = 1
        changes: list[Entry] = []
        if resync == 0 and applied < number:
            most = min(int(args[8]), self.changes_limit)
            changes = list(data.between(changes_key, applied + 1, most))
        told = [[b"%d-0" % entry, list(fields)] for entry, fields in changes]
        return [data.texts.get(head_key, b"0:"), now_ms, at, resync, told]

    def lockout(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> int:
        """Carry out lockout.lua."""
        return LockoutScript(data, keys, args, now_ms).run()

    def refusals(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> int:
        """Carry out refusals.lua."""
        return note_refusals(data, keys, args, now_ms)

    def is_late(self, not_after_ms: int, now_ms: int) -> bool:
        """Say whether a commit comes after its time (R11)."""
        return 0 < not_after_ms < now_ms

    def builds_on(self, beat: int, base: int, at: int) -> bool:
        """Say whether a beat's presence is taken (R13)."""
        return beat > at and base in (0, at)

    def _seen(self, data: Database, keys: Sequence[str], plan: dict[str, Any]) -> list[Any] | None:
        """Look a call id up (R11)."""
        kept = data.texts.get(keys[plan["call"][0] - 1]) if "call" in plan else None
        if kept is None:
            return None
        where, answer = kept.split(b"\n", 1)
        number, tag = where.split(b":", 1)
        return [b"seen", int(number), tag, answer, b""]


def _problem(data: Database, keys: Sequence[str], plan: dict[str, Any]) -> bytes:
    """Say what a plan expects and does not find, or nothing."""
    for place, version in plan["expects"]:
        if data.texts.get(keys[place - 1], b"")[:16] != version.encode():
            return b"conflict"
    for place, most, member in plan["limits"]:
        members = data.sorted.get(keys[place - 1], {})
        if len(members) >= most and member not in members:
            return b"full"
    return b""
