"""Records the state that real OpenClaw releases write, for tests that run without npm.

`python -m tools.interop.migration.record` starts each installed release on loopback, pairs devices
with it and writes to tests/data/openclaw/pairing: the JSON files of protocol 3's release, the tables
of protocol 4's database that hold pairing records as SQL, and the devices' throw-away keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.cli.migration.location import locate
from services.cli.migration.reading import read_records
from shared.protocol.signing import encode_base64
from tools.interop.cli.program import package, version_of
from tools.interop.doctor.gateway import real_gateway
from tools.interop.driver import HERE
from tools.interop.migration.devices import pair_devices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.interop.migration.devices import PairedDevice

DATA: Final = HERE.parent.parent / "tests" / "data" / "openclaw" / "pairing"
TABLES: Final = ("schema_meta", "device_pairing_paired", "device_pairing_pending")


async def main() -> None:
    """Record every installed release."""
    for protocol in (3, 4):
        release = version_of(package(protocol))
        directory = DATA / release
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="latchkey-record-") as temporary:
            home = Path(temporary) / "home"
            async with real_gateway(protocol, home) as gateway:
                devices = await pair_devices(gateway)
            state = home / "state"
            if protocol == 3:
                shutil.copytree(state / "devices", directory / "devices", dirs_exist_ok=True)
            else:
                dump = "\n".join(_dump(state / "state" / "openclaw.sqlite"))
                (directory / "openclaw.sql").write_text(dump + "\n")
            known = _recorded(devices, state)
        (directory / "keys.json").write_text(json.dumps(known, indent=1) + "\n")


def _recorded(devices: list[PairedDevice], state: Path) -> dict[str, object]:
    """Return what tests need to act as the devices: their keys, and their tokens in the state."""
    found = read_records(locate(state), with_tokens=True)
    tokens = {
        one.device_id: {token.role: token.token for token in one.tokens} for one in found.devices
    }
    return {
        one.name: {"seed": encode_base64(one.key.seed), "tokens": tokens[one.key.device_id]}
        for one in devices
    }


def _dump(file: Path) -> Iterator[str]:
    """Yield the SQL that makes these tables again, as the release wrote them."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        yield f"PRAGMA user_version = {version};"
        wanted = tuple(f'INSERT INTO "{name}"' for name in TABLES)
        made = tuple(f"CREATE TABLE {name} " for name in TABLES)
        for line in connection.iterdump():
            if line.startswith((*wanted, *made)):
                yield line


if __name__ == "__main__":
    asyncio.run(main())
