"""Runs `make run` on free ports with its own data, and provides the operators' HTTP API."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from deploy.local.places import ROOT
from tools.interop.wiretap import wiretap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tools.interop.wiretap import Heard

READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 40.0
CALL_SECONDS: Final = 10.0
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR")
_READY: Final = "Press Ctrl-C to stop everything."


class RunFailed(Exception):
    """It did not become ready; the message is its output."""


@dataclass(frozen=True, slots=True)
class Latchkey:
    """A running instance. `gateway` is the common WebSocket address of both gateways."""

    gateway: str
    gateway_token: str
    _http: aiohttp.ClientSession
    _redis: int  # process id
    approval: str = ""
    """Address of the HTTP API."""
    secrets_file: Path | None = None

    async def call(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        """Call the HTTP API with the admin token; return status and body."""
        async with self._http.request(method, path) as answer:
            return answer.status, await answer.json(content_type=None)

    async def request_of(self, device_id: str) -> dict[str, Any] | None:
        """Return a device's pending request, or None."""
        _, body = await self.call("GET", "/v1/requests")
        return next(
            (request for request in body["pending"] if request["deviceId"] == device_id), None
        )

    async def approve(self, request_id: str) -> int:
        """Approve a request; return the status."""
        status, _ = await self.call("POST", f"/v1/requests/{request_id}/approve")
        return status

    def pause_redis(self) -> None:
        """Pause Redis: connections and subscriptions stay, but nothing is answered."""
        os.kill(self._redis, signal.SIGSTOP)

    def resume_redis(self) -> None:
        """Resume Redis."""
        os.kill(self._redis, signal.SIGCONT)


@asynccontextmanager
async def running(
    data: Path, heard: list[Heard], settings: Mapping[str, str] | None = None
) -> AsyncIterator[Latchkey]:
    """Start it with this data directory and these settings; stop it on exit. Raises RunFailed.

    `heard` receives everything that clients are sent.
    """
    environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    ports = {"GATEWAY_PORT": "0", "APPROVAL_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "deploy.local"),
        cwd=ROOT,
        env={**environ, **ports, **(settings or {}), "DATA_DIR": str(data)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed = await _until_ready(process)
        secrets = _secrets(data / "secrets.env")
        port = int(_address(printed, "ws").rpartition(":")[2])
        async with (
            wiretap(port, heard) as tapped,
            aiohttp.ClientSession(
                _address(printed, "http"),
                headers={"Authorization": f"Bearer {secrets['APPROVAL_ADMIN_TOKEN']}"},
                timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
            ) as http,
        ):
            latchkey = Latchkey(
                f"ws://127.0.0.1:{tapped}",
                secrets["OPENCLAW_GATEWAY_TOKEN"],
                http,
                _redis_pid(data / "logs" / "redis.log"),
                _address(printed, "http"),
                data / "secrets.env",
            )
            try:
                yield latchkey
            finally:
                with suppress(ProcessLookupError):
                    latchkey.resume_redis()
    finally:
        await _end(process)


async def _until_ready(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    printed = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_SECONDS):
            async for line in process.stdout:
                printed += line.decode()
                if _READY in printed:
                    return printed
    raise RunFailed(printed)


def _address(printed: str, scheme: str) -> str:
    found = re.search(rf"{scheme}://127\.0\.0\.1:\d+", printed)
    if found is None:
        raise RunFailed(printed)
    return found[0]


def _secrets(file: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in file.read_text().splitlines() if line[:1] != "#")
    return {name: value for name, _, value in lines}


def _redis_pid(log: Path) -> int:
    """Return the process id at the start of each line of Redis' log."""
    found = re.search(r"(?m)^(\d+):M ", log.read_text())
    if found is None:
        raise RunFailed(f"no process id in {log.name}")
    return int(found[1])


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        # communicate() keeps reading, so the process never blocks on its output.
        await asyncio.wait_for(process.communicate(), STOP_SECONDS)
    except TimeoutError:
        process.kill()  # its guard ends its children
        await process.wait()
