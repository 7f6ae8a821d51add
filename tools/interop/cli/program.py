"""`openclaw` as installed from npm, with a home directory of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from deploy.local.places import OPENCLAW_PACKAGE
from tools.interop.driver import HERE, NODE
from tools.interop.facts import Unexpected

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CURRENT_PROTOCOL: Final = 4
REMOTE_NAME: Final = "gateway.test"
NAMES: Final = HERE / "cli" / "names.mjs"
RUN_SECONDS: Final = 60.0
_CONNECT_FAILED: Final = "gateway connect failed: "
_REQUEST_ID: Final = re.compile(r"\(requestId: [0-9a-f-]{36}\)")
QUIET: Final = {
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
    "OPENCLAW_HIDE_BANNER": "1",
    "OPENCLAW_NO_AUTO_UPDATE": "1",
    "OPENCLAW_NO_RESPAWN": "1",
    "OPENCLAW_TELEMETRY": "0",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a command."""

    status: int
    out: str
    errors: str

    @property
    def json(self) -> dict[str, Any]:
        """Its output parsed as JSON. Raises Unexpected."""
        try:
            printed: dict[str, Any] = json.loads(self.out)
        except ValueError:
            raise Unexpected(f"exit {self.status}, no JSON but {self.reason()}") from None
        return printed

    def reason(self) -> str:
        """Return the line that says why it failed, with ID for the id of a request.

        Protocol 4's JSON contains it; otherwise it is the first line after the one about the
        connect.
        """
        try:
            body: str = json.loads(self.out)["error"]["message"]
        except (ValueError, LookupError, TypeError):
            body = self.errors or self.out
        lines = [line.strip() for line in body.splitlines() if line.strip()]
        if len(lines) > 1 and lines[0].startswith(_CONNECT_FAILED):
            del lines[0]
        return _REQUEST_ID.sub("(requestId: ID)", lines[0]) if lines else "nothing"


class Target(Protocol):
    """Where it connects: the WebSocket address of gateways, and their token."""

    @property
    def gateway(self) -> str: ...

    @property
    def gateway_token(self) -> str: ...


class OpenClaw:
    """The command line of one version with one home; `remote`: connects by a non-loopback name."""

    def __init__(self, protocol: int, home: Path, latchkey: Target, *, remote: bool) -> None:
        self._program = package(protocol) / "openclaw.mjs"
        self._home = home
        home.mkdir(exist_ok=True)
        port = latchkey.gateway.rpartition(":")[2]
        self._url = f"ws://{REMOTE_NAME if remote else '127.0.0.1'}:{port}"
        self._token = latchkey.gateway_token
        self._remote = remote

    async def __call__(self, *command: str) -> Ran:
        """Run a command with `--json`. Raises Unexpected if it does not end."""
        connection = ("--json", "--url", self._url, "--token", self._token)
        return await run_program(self._program, *command, *connection, environ=self._environ())

    async def by_environ(self, *command: str) -> Ran:
        """Run a command with `--json` that takes address and token from the environment alone."""
        own = {"OPENCLAW_GATEWAY_URL": self._url, "OPENCLAW_GATEWAY_TOKEN": self._token}
        return await run_program(
            self._program, *command, "--json", environ={**self._environ(), **own}
        )

    async def start(self, *command: str) -> asyncio.subprocess.Process:
        """Start a command that does not end, such as a node; errors go to its output."""
        return await asyncio.create_subprocess_exec(
            *(str(NODE), str(self._program), *command),
            env=self._environ(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    def _environ(self) -> dict[str, str]:
        environ = {
            **QUIET,
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "OPENCLAW_STATE_DIR": str(self._home / "state"),
            # Node.js caches compiled code there, which makes each command start a third faster.
            "NODE_COMPILE_CACHE": str(self._home.parent / "compiled"),
        }
        if self._remote:
            environ["NODE_OPTIONS"] = f"--import={NAMES.as_uri()}"
            environ["OPENCLAW_ALLOW_INSECURE_PRIVATE_WS"] = "1"
        return environ


async def run_program(program: Path, *arguments: str, environ: Mapping[str, str]) -> Ran:
    """Run a Node.js program to its end. Raises Unexpected if it does not end."""
    process = await asyncio.create_subprocess_exec(
        *(str(NODE), str(program), *arguments),
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    except TimeoutError:
        raise Unexpected(f"{program.stem} {arguments[0]} did not end") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), errors.decode())


def package(protocol: int) -> Path:
    """Return the installation directory of the version for this protocol.

    Protocol 4 is spoken by the release that `make run UPSTREAM=openclaw` installs.
    """
    directory = OPENCLAW_PACKAGE if protocol == CURRENT_PROTOCOL else HERE / "openclaw-3"
    return directory / "node_modules" / "openclaw"


def version_of(installed: Path) -> str:
    """Return the version of a package."""
    version: str = json.loads((installed / "package.json").read_text())["version"]
    return version
