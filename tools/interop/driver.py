"""Runs one of our Node.js programs, controlled over JSON lines.

`{"id":1,"do":NAME,…}` is answered by `{"id":1,"ok":…}` or `{"id":1,"error":{"message":…}}`; a line
without an id is an event. Its first line describes the program.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.interop.facts import Unexpected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

HERE: Final = Path(__file__).parent
NODE: Final = HERE / "node_modules" / ".bin" / "node"
# The reference client itself waits 15 s for the challenge, and at most a few between attempts.
WAIT_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0
MAX_LINE_BYTES: Final = 1 << 20
_PASSED_ON: Final = ("PATH", "HOME", "TMPDIR")

Event = dict[str, Any]


class Driver:
    """The running program. `started` is its first line."""

    def __init__(self, process: asyncio.subprocess.Process, started: Event) -> None:
        self.started: Final = started
        self.hear: Callable[[Event], None] = lambda _event: None
        self._process = process
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Event]] = {}
        self._ended = False

    async def ask(self, do: str, *, within: float = WAIT_SECONDS, **rest: Any) -> Any:
        """Send a command and return its answer. Raises Unexpected."""
        if self._ended:
            raise Unexpected("the driver has ended")
        number = next(self._ids)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": do, **rest}).encode() + b"\n")
        try:
            answer = await asyncio.wait_for(future, within)
        except TimeoutError:
            raise Unexpected(f"no answer to {do}") from None
        finally:
            del self._asked[number]
        if "error" in answer:
            raise Unexpected(f"{do}: {answer['error']['message']}")
        return answer["ok"]

    async def read(self) -> None:
        """Dispatch its output until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            body: Event = json.loads(line)
            if "id" not in body:
                self.hear(body)
            elif future := self._asked.get(body["id"]):
                future.set_result(body)
        self._ended = True
        for future in self._asked.values():
            future.set_exception(Unexpected("the driver has ended"))


@asynccontextmanager
async def driving(
    program: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Driver]:
    """Start the program with these settings; stop it on exit. Raises Unexpected."""
    environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(str(NODE), str(program)),
        env={**environ, **(settings or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        started = await process.stdout.readline()
        if not started:
            raise Unexpected(f"{program.name} did not start")
        driver = Driver(process, json.loads(started))
        reading = asyncio.create_task(driver.read())
        try:
            yield driver
        finally:
            process.stdin.close()
            await asyncio.wait([reading], timeout=STOP_SECONDS)
            reading.cancel()
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
