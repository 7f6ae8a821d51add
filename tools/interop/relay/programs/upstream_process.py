"""A real OpenClaw gateway as the upstream, which can be stopped, killed and restarted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from deploy.local.ports import Reservation
from tools.interop.cli.program import package
from tools.interop.doctor.gateway import ALONE, RealGateway, until_ready
from tools.interop.driver import NODE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROTOCOL: Final = 4
STOP_SECONDS: Final = 30.0


class UpstreamProcess:
    """One gateway with a fixed port, and state that survives restarts."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True)
        self._reservation = Reservation()
        self._file = home / "openclaw.json"
        self._process: asyncio.subprocess.Process | None = None
        self._environ = {
            **ALONE,
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "OPENCLAW_STATE_DIR": str(home / "state"),
            "OPENCLAW_CONFIG_PATH": str(self._file),
            "NODE_COMPILE_CACHE": str(home.parent / "compiled"),
            "TMPDIR": str(home),
        }
        self.log: Final = home / "log"
        self.port: Final = self._reservation.port
        self.ws_url: Final = f"ws://127.0.0.1:{self.port}"

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write its openclaw.json."""
        self._file.write_text(json.dumps(settings))

    async def start(self, *, wait: bool = True) -> None:
        """Start it; its log is appended to. Raises Unexpected if it does not become ready."""
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(str(NODE), str(package(PROTOCOL) / "openclaw.mjs"), "gateway", "run"),
                *("--port", str(self.port)),
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            await self.until_ready()

    async def until_ready(self) -> None:
        """Wait until it answers connects. Raises Unexpected."""
        assert self._process is not None
        gateway = RealGateway(PROTOCOL, self.port, self._environ, self.log)
        await until_ready(gateway, self._process)

    async def end(self) -> None:
        """Stop it as a service manager does; it closes its clients properly."""
        await self._signal(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill it; its clients are cut off."""
        await self._signal(signal.SIGKILL)

    async def close(self) -> None:
        """Stop it permanently, with its child processes."""
        if self._process is not None:
            await self._signal(signal.SIGKILL)
        self._reservation.release()

    async def _signal(self, number: signal.Signals) -> None:
        process = self._process
        assert process is not None
        if process.returncode is None:
            process.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
