"""State directories as real OpenClaw releases wrote them, with the keys of their devices."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.device.identity import DeviceKey
from shared.protocol.signing import decode_base64

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA: Final = Path(__file__).parents[2] / "data" / "openclaw" / "pairing"
WITH_DATABASE: Final = "2026.9.6"
WITH_FILES: Final = "2026.3.28"
RELEASES: Final = (WITH_DATABASE, WITH_FILES)
PAIRED: Final = {WITH_DATABASE: 5, WITH_FILES: 6}
"""How many devices each has paired: the older one also its own command line."""


@dataclass(frozen=True)
class RecordedDevice:
    """A device that a real OpenClaw has paired: its key, and its tokens by role."""

    key: DeviceKey
    tokens: Mapping[str, str]


def recorded_devices(release: str) -> dict[str, RecordedDevice]:
    """Return the devices of a release by name."""
    stored: dict[str, Any] = json.loads((DATA / release / "keys.json").read_text())
    return {
        name: RecordedDevice(
            DeviceKey.from_seed(decode_base64(device["seed"]) or b""), device["tokens"]
        )
        for name, device in stored.items()
    }


def write_state(release: str, directory: Path) -> Path:
    """Write the state directory of a release; returns it."""
    if release == WITH_FILES:
        shutil.copytree(DATA / release / "devices", directory / "devices")
        return directory
    write_database(directory / "state" / "openclaw.sqlite")
    return directory


def write_database(file: Path, *, more: str = "") -> Path:
    """Write the database, in WAL mode as OpenClaw has it; `more` is SQL to run in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript((DATA / WITH_DATABASE / "openclaw.sql").read_text() + more)
        connection.commit()
    return file
