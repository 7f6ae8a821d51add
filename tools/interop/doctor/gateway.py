"""A real OpenClaw gateway on loopback with its own state, and its local command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from deploy.local.ports import Reservation
from tools.interop.cli.program import QUIET, Ran, package, run_program
from tools.interop.driver import NODE
from tools.interop.facts import Unexpected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

TOKEN: Final = "gateway-token-of-32-characters-00"
READY_SECONDS: Final = 90.0
STOP_SECONDS: Final = 20.0
TOKEN_AUTH: Final = {"mode": "token", "token": TOKEN}
ALONE: Final = {
    **QUIET,
    "OPENCLAW_SKIP_CHANNELS": "1",
    "OPENCLAW_DISABLE_BONJOUR": "1",
}


@dataclass(frozen=True, slots=True)
class RealGateway:
    """A running gateway."""

    protocol: int
    port: int
    environ: Mapping[str, str]
    log: Path

    @property
    def http_url(self) -> str:
        """Its HTTP address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Its WebSocket address."""
        return f"ws://127.0.0.1:{self.port}"

    async def command(self, *arguments: str) -> Ran:
        """Run `openclaw` in the gateway's environment, like `railway ssh`. Raises Unexpected."""
        program = package(self.protocol) / "openclaw.mjs"
        return await run_program(program, *arguments, environ=self.environ)

    async def devices(self) -> dict[str, Any]:
        """Return the output of `openclaw devices list`: `pending` and `paired`."""
        return (await self.command("devices", "list", "--json")).json


@asynccontextmanager
async def real_gateway(
    protocol: int, home: Path, settings: Mapping[str, Any] | None = None, *, wait: bool = True
) -> AsyncIterator[RealGateway]:
    """Start a gateway with these `gateway` settings in its openclaw.json; stop it on exit."""
    _write_settings(home, settings or {})
    reservation = Reservation()
    port = reservation.port
    reservation.release()
    environ = {
        **ALONE,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "OPENCLAW_STATE_DIR": str(home / "state"),
        "OPENCLAW_CONFIG_PATH": str(home / "openclaw.json"),
        "OPENCLAW_GATEWAY_PORT": str(port),
        "NODE_COMPILE_CACHE": str(home.parent / "compiled"),
        "TMPDIR": str(home),
    }
    log = home / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(str(NODE), str(package(protocol) / "openclaw.mjs"), "gateway", "run"),
            *("--port", str(port)),
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    gateway = RealGateway(protocol, port, environ, log)
    try:
        if wait:
            await until_ready(gateway, process)
        yield gateway
    finally:
        await _end(process)


def _write_settings(home: Path, settings: Mapping[str, Any]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    own = {"mode": "local", "bind": "loopback", "auth": TOKEN_AUTH, **settings}
    (home / "openclaw.json").write_text(json.dumps({"gateway": own}))


async def until_ready(gateway: RealGateway, process: asyncio.subprocess.Process) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as http:
            while process.returncode is None:
                with suppress(aiohttp.ClientError):
                    if await _is_ready(gateway, http):
                        return
                await asyncio.sleep(0.2)
    raise Unexpected(f"OpenClaw did not start: {gateway.log.read_text()[-2000:]}")


async def _is_ready(gateway: RealGateway, http: aiohttp.ClientSession) -> bool:
    """Return whether it decides on connects; releases of protocol 3 have no `/startupz`."""
    async with http.get(f"{gateway.http_url}/readyz") as answer:
        ready = answer.status == HTTPStatus.OK
    async with http.get(f"{gateway.http_url}/startupz") as answer:
        started = gateway.protocol == 3 or '"started"' in await answer.text()
    return ready and started


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the program and its children: a normal shutdown may drain connections for minutes."""
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
