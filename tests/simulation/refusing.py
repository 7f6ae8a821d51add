"""refusals.lua in Python, line by line, over the in-memory database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.database import Word, to_bytes, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.database import Database

_unpack: Final = msgspec.msgpack.Decoder().decode
_pack: Final = msgspec.msgpack.Encoder().encode
_Map = dict[str, Any]


def note_refusals(data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int) -> int:
    """Store a gateway's reported refusals; returns the total number of such writes."""
    data.require_writable()
    gateway, beat_ms, kept, apart = to_text(args[0]), int(args[1]), int(args[2]), int(args[3])
    rows_most, addresses_most = int(args[4]), int(args[5])
    paired, pending = data.sorted.get(keys[0], {}), data.sorted.get(keys[1], {})
    rows_of = data.hashes.setdefault(keys[4], {})
    for key, packed in zip(keys[6:], args[6:], strict=True):
        one: _Map = _unpack(to_bytes(packed))
        at = beat_ms - one["age"]
        if one["device"] and (one["device"] in paired or one["device"] in pending):
            entries: _Map = _unpack(data.texts.get(key, b"\x80"))
            place = "proven" if one["proven"] else "claimed"
            entries[place] = _merged(entries.get(place), one, gateway, beat_ms, apart)
            data.set(key, _pack(entries), now_ms + kept)
            _raise(data, keys[2], one["device"], at)
        else:
            first, others = None, []
            for row in _unpack(rows_of.get(one["source"], b"\x90")):
                same = (row["device"], row["proven"]) == (one["device"], one["proven"])
                if same and (one["device"] or row["reason"] == one["reason"]):
                    first = _merged(row, one, gateway, beat_ms, apart)
                else:
                    others.append(row)
            first = first or _merged(None, one, gateway, beat_ms, apart)
            rows_of[one["source"]] = _pack([first, *others[: rows_most - 1]])
            _raise(data, keys[3], one["source"], at)
    data.take_up_to(keys[2], beat_ms - kept)
    ranked = data.ranked(keys[3])
    over = max(0, len(ranked) - addresses_most)
    for rank, (score, source) in enumerate(ranked):
        if rank < over or score <= beat_ms - kept:
            data.take(keys[3], source)
            rows_of.pop(source, None)
    for key in keys[2:5]:
        data.expire(key, now_ms + kept)
    version = int(data.texts.get(keys[5], b"0")) + 1
    data.set(keys[5], b"%d" % version)
    return version


def _raise(data: Database, key: str, member: str, score: float) -> None:
    data.add(key, max(score, data.sorted.get(key, {}).get(member, score)), member)


def _merged(held: _Map | None, one: _Map, gateway: str, now_ms: int, apart: int) -> _Map:
    new = {
        **{name: one[name] for name in ("device", "proven", "reason", "undecided")},
        **{name: one[name] for name in ("address", "client", "name", "detail", "number")},
        "at": now_ms - one["age"],
        "first": now_ms - one["first_age"],
        "count": one["count"],
        "replica": gateway,
        "told": one["count"],
    }
    if held is None:
        return new
    again = (held["replica"], held["number"]) == (gateway, one["number"])
    parted = not again and new["first"] - held["at"] > apart
    if held["reason"] != new["reason"] or parted:
        return new if new["at"] >= held["at"] else held
    if again and one["count"] <= held["told"]:
        return held
    counted = held["told"] if again else one["confirmed"]
    count = held["count"] + one["count"] - counted
    first = min(held["first"], new["first"])
    newest = held if new["at"] < held["at"] else new
    return {**newest, "count": count, "first": first}
