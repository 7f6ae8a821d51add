"""refusals.lua in Python, line by line, over the in-memory database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.redis.database import Word, to_bytes, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.redis.database import Database

_unpack: Final = msgspec.msgpack.Decoder().decode
_pack: Final = msgspec.msgpack.Encoder().encode
_Map = dict[str, Any]


def note_refusals(data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int) -> int:
    """Store a gateway's reported refusals; returns the total number of such writes."""
    data.require_writable()
    gateway, beat_ms, stored, apart = to_text(args[0]), int(args[1]), int(args[2]), int(args[3])
    max_rows, max_addresses = int(args[4]), int(args[5])
    paired, pending = data.sorted.get(keys[0], {}), data.sorted.get(keys[1], {})
    rows_of = data.hashes.setdefault(keys[4], {})
    for key, packed in zip(keys[6:], args[6:], strict=True):
        entry: _Map = _unpack(to_bytes(packed))
        at = beat_ms - entry["age"]
        if entry["device"] and (entry["device"] in paired or entry["device"] in pending):
            entries: _Map = _unpack(data.texts.get(key, b"\x80"))
            place = "proven" if entry["proven"] else "claimed"
            entries[place] = _merged(entries.get(place), entry, gateway, beat_ms, apart)
            data.set(key, _pack(entries), now_ms + stored)
            _raise(data, keys[2], entry["device"], at)
        else:
            first, others = None, []
            for row in _unpack(rows_of.get(entry["source"], b"\x90")):
                same = (row["device"], row["proven"]) == (entry["device"], entry["proven"])
                if same and (entry["device"] or row["reason"] == entry["reason"]):
                    first = _merged(row, entry, gateway, beat_ms, apart)
                else:
                    others.append(row)
            first = first or _merged(None, entry, gateway, beat_ms, apart)
            rows_of[entry["source"]] = _pack([first, *others[: max_rows - 1]])
            _raise(data, keys[3], entry["source"], at)
    data.take_up_to(keys[2], beat_ms - stored)
    ranked = data.ranked(keys[3])
    over = max(0, len(ranked) - max_addresses)
    for rank, (score, source) in enumerate(ranked):
        if rank < over or score <= beat_ms - stored:
            data.take(keys[3], source)
            rows_of.pop(source, None)
    for key in keys[2:5]:
        data.expire(key, now_ms + stored)
    version = int(data.texts.get(keys[5], b"0")) + 1
    data.set(keys[5], b"%d" % version)
    return version


def _raise(data: Database, key: str, member: str, score: float) -> None:
    data.add(key, max(score, data.sorted.get(key, {}).get(member, score)), member)


def _merged(held: _Map | None, mapping: _Map, gateway: str, now_ms: int, apart: int) -> _Map:
    new = {
        **{name: mapping[name] for name in ("device", "proven", "reason", "undecided")},
        **{name: mapping[name] for name in ("address", "client", "name", "detail", "number")},
        "at": now_ms - mapping["age"],
        "first": now_ms - mapping["first_age"],
        "count": mapping["count"],
        "replica": gateway,
        "told": mapping["count"],
    }
    if held is None:
        return new
    again = (held["replica"], held["number"]) == (gateway, mapping["number"])
    parted = not again and new["first"] - held["at"] > apart
    if held["reason"] != new["reason"] or parted:
        return new if new["at"] >= held["at"] else held
    if again and mapping["count"] <= held["told"]:
        return held
    counted = held["told"] if again else mapping["confirmed"]
    count = held["count"] + mapping["count"] - counted
    first = min(held["first"], new["first"])
    newest = held if new["at"] < held["at"] else new
    return {**newest, "count": count, "first": first}
