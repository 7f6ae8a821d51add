"""The command `latchkey`, run in a terminal as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.support.processes.stack import Stack

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal:
    """Runs the command with the operator's environment."""

    def __init__(self, stack: Stack) -> None:
        self.env = {
            "PATH": os.environ["PATH"],
            "LATCHKEY_COMMAND": "latchkey",
            "APPROVAL_URL": stack.approvals[0].url,
            "APPROVAL_ADMIN_TOKEN": stack.admin_token,
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", *arguments),
            cwd=ROOT,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> Ended:
        process = await self.start(*arguments)
        out, err = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    async def typing(self, answers: str, *arguments: str) -> Screen:
        """Run in a terminal, and answer each question with one letter."""
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "r+b", buffering=0) as keyboard:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.cli", *arguments),
                cwd=ROOT,
                env=self.env | {"TERM": "dumb"},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
            )
            os.close(theirs)
            shown = b""
            for number, answer in enumerate(answers, 1):
                while shown.count(b"[y/N]") < number:
                    shown += await asyncio.to_thread(keyboard.read, 4096)
                keyboard.write(f"{answer}\n".encode())
            code = await process.wait()
            shown += keyboard.read(65_536)
        return Screen(code, shown.decode())


@dataclass(frozen=True)
class Screen:
    code: int
    text: str
