"""`openclaw node run` with a home of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tools.interop.cli.program import NAMES, QUIET, REMOTE_NAME, package
from tools.interop.driver import NODE

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL: Final = 4
STOP_SECONDS: Final = 10.0


class NodeHost:
    """A node host. It keeps its identity across restarts and gateways."""

    def __init__(
        self, home: Path, name: str, gateway_token: str, *, protocol: int = PROTOCOL
    ) -> None:
        home.mkdir(parents=True)
        self.name: Final = name
        self._program: Final = package(protocol) / "openclaw.mjs"
        self._log: Final = home / "log"
        self._process: asyncio.subprocess.Process | None = None
        self._environ = {
            **QUIET,
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "OPENCLAW_STATE_DIR": str(home / "state"),
            "OPENCLAW_GATEWAY_TOKEN": gateway_token,
            "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS": "1",
            "NODE_OPTIONS": f"--import={NAMES.as_uri()}",
            "NODE_COMPILE_CACHE": str(home.parent / "compiled"),
        }

    @property
    def runs(self) -> bool:
        """Whether the program is running."""
        return self._process is not None and self._process.returncode is None

    async def start(self, port: int) -> None:
        """Start it against the gateway on this port; do not wait."""
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(str(NODE), str(self._program), "node", "run"),
                *("--host", REMOTE_NAME, "--port", str(port), "--display-name", self.name),
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """Return the output of all its runs."""
        return self._log.read_text(errors="replace")

    async def stop(self) -> None:
        """Stop it and its child processes."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
