"""The scripts that Redis runs, in Python, over the in-memory database.

Keys of other types are not modelled: nothing writes any here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.redis.database import Word, to_bytes, to_text
from tests.simulation.redis.lockout_script import LockoutScript
from tests.simulation.redis.pending_script import Room
from tests.simulation.redis.presence_script import (
    head_of,
    note_gateway,
    note_sightings,
    tell_presence,
)
from tests.simulation.redis.refusals_script import note_refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.redis.database import Database, Entry

_unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


class Scripts:
    """The scripts as Redis runs them: on a database, at a time of its clock in milliseconds.

    `changes_limit`: the maximum number of changes in an answer to a heartbeat.
    """

    def __init__(self, changes_limit: int = 1_000) -> None:
        self.changes_limit = changes_limit

    def commit(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> list[Any]:
        """Run commit.lua."""
        plan: dict[str, Any] = _unpack(to_bytes(args[0]))
        seen = self._seen(data, keys, plan)
        if seen is not None:
            return seen
        trouble = disagrees(data, keys[0], keys[1])
        if trouble:
            return [b"broken", 0, b"", trouble.encode(), b""]
        number, tag = head_of(data, keys[0])
        before = tag
        if self.is_late(plan["not_after"], now_ms):
            return [b"late", number, tag, b"", b""]
        problem = _problem(data, keys, args, plan)
        room = Room(data, {} if problem else plan)
        if problem or room.full:
            return [problem or b"full", number, tag, b"", b""]
        args = room.add_change(args)
        paired = len(data.sorted.get(keys[4], {}))
        first = max(number, plan["beyond"])
        audit = data.streams.get(keys[2], [])
        if plan["changes"] and audit and audit[-1][0] > first:
            return [b"broken", number, before, keys[2].encode(), b"ahead"]
        tag = _log(data, keys, args, plan, now_ms)
        room.displace(now_ms)
        for command, place, words in plan["writes"]:
            given = [args[word - 1] if isinstance(word, int) else word for word in words]
            data.run(command, keys[place - 1], given, now_ms)
        room.count_requests()
        _decide(data, keys, args, plan, first)
        if plan["changes"]:
            number = first + len(plan["changes"])
            data.set(keys[0], b"%d:%s" % (number, tag))
        _count_paired(data, keys, paired)
        if "call" in plan:
            place, answer, kept_ms = plan["call"]
            value = b"%d:%s\n%s" % (number, tag, to_bytes(args[answer - 1]))
            data.set(keys[place - 1], value, now_ms + kept_ms)
        return [b"done", number, tag, b"", before, room.displaced]

    def repair(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> list[Any]:
        """Run repair.lua."""
        kind, tag_found = to_text(args[0]), to_bytes(args[1])
        if kind in ("zset", "number"):
            return [b"nothing", 0]
        number, tag = head_of(data, keys[0])
        audit = data.streams.get(keys[2], [])
        lost = bool(disagrees(data, keys[0], keys[1]))
        lost = lost or bool(audit and audit[-1][0] > number)
        if not lost and (kind not in ("ahead", "unreadable") or tag != tag_found):
            return [b"nothing", 0]
        apart = int(args[2])
        base = (number // apart + 1) * apart
        while audit and audit[-1][0] > base:
            base *= 2
        new_tag, entry = to_bytes(args[3]), to_bytes(args[5])
        data.append(keys[2], base + 1, (b"entry", entry, b"tag", new_tag), int(args[6]))
        data.delete(keys[1])
        fields = (b"tag", new_tag, b"previous", b"", b"body", to_bytes(args[4]))
        data.append(keys[1], base + 1, fields, 1)
        data.set(keys[0], b"%d:%s" % (base + 1, new_tag))
        data.add(keys[3], base + 1, f"{base + 1}:{to_text(new_tag)}\n{to_text(entry)}")
        data.set(keys[4], b"%d:%s" % (now_ms // 1000, to_bytes(args[8])), now_ms + int(args[7]))
        return [b"begun", base + 1]

    def check(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], _now_ms: int
    ) -> list[Any]:
        """Run check.lua."""
        trouble = disagrees(data, keys[0], keys[1])
        number, tag = head_of(data, keys[0])
        paired, counted = b"%d" % len(data.sorted.get(keys[4], {})), data.texts.get(keys[5])
        incomplete = keys[6] in data.texts or counted not in (None, paired)
        if to_text(args[0]) == "begin":
            data.set(keys[5], paired)
            data.set(keys[6], to_bytes(args[1]))
            incomplete = True
        elif to_text(args[0]) == "indexed" and data.texts.get(keys[6]) == to_bytes(args[1]):
            incomplete = counted != paired
            if not incomplete:
                data.delete(keys[6])
        audit = data.streams.get(keys[2], [])
        ahead = not trouble and bool(audit) and audit[-1][0] > number
        mark = data.texts.get(keys[7], b"")
        told_tag = b"" if trouble else tag
        return [trouble.encode(), told_tag, int(ahead), mark, int(incomplete)]

    def heartbeat(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> list[Any]:
        """Run heartbeat.lua."""
        trouble = disagrees(data, keys[2], keys[3])
        if trouble:
            return [b"broken", trouble.encode()]
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
        """Read the answer to a heartbeat: the part of heartbeat.lua after its writes."""
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
            maximum = min(int(args[8]), self.changes_limit)
            changes = list(data.between(changes_key, applied + 1, maximum))
        received = [[b"%d-0" % entry, list(fields)] for entry, fields in changes]
        return [data.texts.get(head_key, b"0:"), now_ms, at, resync, received]

    def lockout(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> int:
        """Run lockout.lua."""
        return LockoutScript(data, keys, args, now_ms).run()

    def refusals(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> int:
        """Run refusals.lua."""
        return note_refusals(data, keys, args, now_ms)

    def is_late(self, not_after_ms: int, now_ms: int) -> bool:
        """Return whether a commit comes too late (R11)."""
        return 0 < not_after_ms < now_ms

    def builds_on(self, beat: int, base: int, at: int) -> bool:
        """Return whether a heartbeat's presence is accepted (R13)."""
        return beat > at and base in (0, at)

    def _seen(self, data: Database, keys: Sequence[str], plan: dict[str, Any]) -> list[Any] | None:
        """Look a call id up (R11)."""
        stored = data.texts.get(keys[plan["call"][0] - 1]) if "call" in plan else None
        if stored is None:
            return None
        where, answer = stored.split(b"\n", 1)
        number, tag = where.split(b":", 1)
        return [b"seen", int(number), tag, answer, b""]


def _log(
    data: Database, keys: Sequence[str], args: Sequence[Word], plan: dict[str, Any], now_ms: int
) -> bytes:
    """Append the changes to both logs; returns the tag of the last."""
    number, tag = head_of(data, keys[0])
    first, stored = max(number, plan["beyond"]), plan["kept"]
    if plan["anew"]:
        data.delete(keys[1])
    for place, (new_tag, body, entry, _decision, counted) in enumerate(plan["changes"], 1):
        fields = (b"tag", new_tag.encode(), b"previous", tag)
        data.append(keys[1], first + place, (*fields, b"body", to_bytes(args[body - 1])), stored[0])
        if not counted or _counts(data, keys, counted, now_ms):
            received = (b"entry", to_bytes(args[entry - 1]), b"tag", new_tag.encode())
            data.append(keys[2], first + place, received, stored[1])
        tag = new_tag.encode()
    return tag


def _count_paired(data: Database, keys: Sequence[str], before: int) -> None:
    """Record how many devices the index has, and whether it had lost some."""
    now, counted = len(data.sorted.get(keys[4], {})), data.texts.get(keys[5])
    if now == before:
        return
    if counted is not None and counted != b"%d" % before:
        data.set(keys[6], b"1")
    data.set(keys[5], b"%d" % now)


def _decide(
    data: Database, keys: Sequence[str], args: Sequence[Word], plan: dict[str, Any], first: int
) -> None:
    """Store the entries of decisions."""
    for place, (new_tag, _body, entry, decision, _counted) in enumerate(plan["changes"], 1):
        if decision:
            member = f"{first + place}:{new_tag}\n{to_text(args[entry - 1])}"
            data.add(keys[3], first + place, member)
    for _score, member in data.ranked(keys[3])[: -plan["kept"][2]]:
        data.take(keys[3], member)


def disagrees(data: Database, head_key: str, log_key: str) -> str:
    """Return the inconsistent key, if any: the log's last entry must be the head's."""
    number, tag = head_of(data, head_key)
    found = data.between(log_key, number, 2)
    if number == 0:
        return head_key if found or head_key in data.texts else ""
    same = len(found) == 1 and found[0][0] == number and found[0][1][1] == tag
    return "" if same else log_key


def _counts(data: Database, keys: Sequence[str], counted: Sequence[Any], now_ms: int) -> bool:
    """Count an entry of a source; returns whether it is logged individually."""
    counter, maximum, kept_ms, due, member, score = counted
    key = keys[counter - 1]
    count = int(data.texts.get(key, b"0")) + 1
    if key in data.texts:
        data.texts[key] = b"%d" % count
    else:
        data.set(key, b"1", now_ms + kept_ms)
    if count == maximum + 1:
        data.add(keys[due - 1], score, member)
    return bool(count <= maximum)


def _problem(
    data: Database, keys: Sequence[str], args: Sequence[Word], plan: dict[str, Any]
) -> bytes:
    """Return a plan's unmet expectation, or None."""
    for place, version in plan["expects"]:
        expected = to_bytes(args[version - 1] if isinstance(version, int) else version)
        if data.texts.get(keys[place - 1], b"")[:16] != expected:
            return b"conflict"
    for place, maximum, member in plan["limits"]:
        members = data.sorted.get(keys[place - 1], {})
        if len(members) >= maximum and member not in members:
            return b"full"
    return b""
