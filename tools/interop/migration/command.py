"""`latchkey import openclaw` and `latchkey export openclaw`, against a running Latchkey."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from deploy.local.places import ROOT
from tools.interop.facts import Unexpected

if TYPE_CHECKING:
    from pathlib import Path

    from tools.interop.latchkey import Latchkey

RUN_SECONDS: Final = 60.0


async def move(latchkey: Latchkey, direction: str, path: Path, *options: str) -> dict[str, Any]:
    """Run `latchkey import` or `export`; return its JSON document. Raises Unexpected."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", direction, "openclaw", str(path)),
        *("--json", "--secrets", str(latchkey.secrets_file), *options),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "APPROVAL_URL": latchkey.approval},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    except TimeoutError:
        process.kill()
        raise Unexpected(f"latchkey {direction} did not end") from None
    try:
        document: dict[str, Any] = json.loads(out)
    except ValueError:
        raise Unexpected(f"latchkey {direction}: {errors.decode()[-500:]}") from None
    return document
