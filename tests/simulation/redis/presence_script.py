"""The parts of heartbeat.lua that write: connected devices and last-seen times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.redis.database import Word, to_bytes, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.redis.database import Database

_unpack: Final = msgspec.msgpack.Decoder().decode
_pack: Final = msgspec.msgpack.Encoder().encode
_FIRST: Final = 14
"""The index of the first argument of a variable-length group."""


def tell_presence(data: Database, key: str, args: Sequence[Word]) -> None:
    """Update a gateway's presence from its heartbeat."""
    joined, left = int(args[9]), int(args[10])
    data.require_writable()
    if int(args[2]) == 0:
        data.delete(key)
    presence = data.hashes.setdefault(key, {})
    place = _FIRST
    for at in range(place, place + 3 * joined, 3):
        number, device = to_text(args[at]), f"device:{to_text(args[at + 2])}"
        if number not in presence:
            _count(presence, device, 1)
        presence[number] = to_bytes(args[at + 1])
    place += 3 * joined
    for word in args[place : place + left]:
        entry = presence.pop(to_text(word), None)
        if entry is not None:
            device = f"device:{_unpack(entry)[1]}"
            if _count(presence, device, -1) < 1:
                del presence[device]
    presence["at"] = to_bytes(args[1])


def note_gateway(
    data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int, *, moved: bool
) -> int:
    """Store that a gateway is alive and its position; returns the version of presence."""
    data.require_writable()
    presence = data.hashes.setdefault(keys[0], {})
    presence["count"], presence["seen"] = to_bytes(args[3]), b"%d" % now_ms
    if to_text(args[7]) == "1":
        presence["applied"] = to_bytes(args[5])
    if to_text(args[11]):
        presence["version"], presence["uptime"] = to_bytes(args[11]), to_bytes(args[12])
    until = now_ms + int(args[4])
    data.expire(keys[0], until)
    data.add(keys[1], float(until), to_text(args[0]))
    vanished = data.take_up_to(keys[1], now_ms)
    version = int(data.texts.get(keys[5], b"0"))
    if moved or vanished:
        version += 1
        data.set(keys[5], b"%d" % version)
    return version


def note_sightings(data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int) -> None:
    """Store last-seen times of paired devices."""
    received: list[list[Any]] = _unpack(to_bytes(args[_FIRST + 3 * int(args[9]) + int(args[10])]))
    paired = data.sorted.get(keys[4], {})
    for key, words in zip(keys[6:], received, strict=True):
        device, age, why, address, role, name, app, platform = words
        if device not in paired:
            continue
        held = data.texts.get(key)
        seen: dict[str, Any] = _unpack(held) if held else {"at": 0}
        when = now_ms - age
        if when >= seen["at"]:
            seen |= {"at": when, "why": why, "address": address}
        if name and when >= seen.get("named_at", 0):
            seen |= {"name": name, "named_at": when}
        if app and when >= seen.get("versioned_at", 0):
            seen.setdefault("platforms", {})[app] = platform
            seen["versioned_at"] = when
        if role:
            used = seen.setdefault("used", {})
            used[role] = max(used.get(role, 0), when)
        data.set(key, _pack(seen))


def head_of(data: Database, key: str) -> tuple[int, bytes]:
    """Return the newest change's number and tag."""
    number, tag = data.texts.get(key, b"0:").split(b":", 1)
    return int(number), tag


def _count(presence: dict[str, bytes], device: str, by: int) -> int:
    count = int(presence.get(device, b"0")) + by
    presence[device] = b"%d" % count
    return count
