"""Count the OpenClaw processes that answered, from their hello-ok frames. Pure.

Current releases identify the process (`server.bootId`). Older ones report only their uptime, which
gives an interval in which the process was started. Connections with disjoint intervals were
answered by different processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_AGENTS = "/agents/"
"""Separates the state directory from the rest of a path."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One hello-ok; `asked_at` and `answered_at` in seconds of the local monotonic clock."""

    boot_id: str
    version: str
    uptime_seconds: float
    asked_at: float
    answered_at: float


@dataclass(frozen=True, slots=True)
class Process:
    """One process: name, release, connections answered, and uptime."""

    name: str
    version: str
    connections: int
    uptime_seconds: float


def sighting(hello: Mapping[str, Any], *, asked_at: float, answered_at: float) -> Sighting:
    """Read a hello-ok; missing values are empty or zero."""
    server, snapshot = _part(hello, "server"), _part(hello, "snapshot")
    uptime_ms = snapshot.get("uptimeMs")
    return Sighting(
        boot_id=_text(server, "bootId"),
        version=_text(server, "version"),
        uptime_seconds=uptime_ms / 1000 if isinstance(uptime_ms, int | float) else 0.0,
        asked_at=asked_at,
        answered_at=answered_at,
    )


def processes(sightings: Iterable[Sighting]) -> list[Process]:
    """Return the processes, those with the most connections first.

    Without boot ids, it is the smallest number that explains the answers.
    """
    groups: dict[str, list[Sighting]] = {}
    nameless: dict[str, list[Sighting]] = {}
    for item in sightings:
        if item.boot_id:
            groups.setdefault(item.boot_id, []).append(item)
        else:
            nameless.setdefault(item.version, []).append(item)
    found = [_process(name[:8], members) for name, members in groups.items()]
    for members in nameless.values():
        found += [_process("", group) for group in _by_start(members)]
    return sorted(found, key=lambda process: -process.connections)


def state_directory(hello: Mapping[str, Any]) -> str:
    """Return the gateway's state directory, if hello-ok shows it."""
    snapshot = _part(hello, "snapshot")
    if named := _text(snapshot, "stateDir"):
        return named
    path = _text(_part(_part(snapshot, "health"), "sessions"), "path")
    return path.rpartition(_AGENTS)[0]


def _by_start(sightings: list[Sighting]) -> list[list[Sighting]]:
    """Group by start interval: the fewest groups whose members overlap."""
    groups: list[list[Sighting]] = []
    latest = float("-inf")
    for entry in sorted(sightings, key=lambda item: item.answered_at - item.uptime_seconds):
        if entry.asked_at - entry.uptime_seconds > latest:
            groups.append([])
            latest = entry.answered_at - entry.uptime_seconds
        groups[-1].append(entry)
    return groups


def _process(name: str, members: list[Sighting]) -> Process:
    longest = max(member.uptime_seconds for member in members)
    return Process(name, members[0].version, len(members), longest)


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name)
    return part if isinstance(part, dict) else {}


def _text(values: Mapping[str, Any], name: str) -> str:
    text = values.get(name)
    return text if isinstance(text, str) else ""
