"""The worker processes, as the coordinator sees them."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import threading
from typing import TYPE_CHECKING, Final, Self

from tools.load.workers import worker
from tools.load.workers.messages import Done, Order, Progress, Ready, Stop, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from tools.load.workers.messages import Job, Report

START_SECONDS: Final = 60.0
END_SECONDS: Final = 5.0


class WorkersError(Exception):
    """A worker cannot continue or has died."""


class Workers:
    """One process for each job. Entering starts them and waits until all are ready."""

    def __init__(self, jobs: Sequence[Job], heard: Callable[[Progress], None]) -> None:
        self._jobs = jobs
        self._heard = heard
        self._processes: list[SpawnProcess] = []
        self._pipes: list[Connection] = []
        self._listeners: list[threading.Thread] = []
        self._ready = 0
        self._done: set[int] = set()
        self._problem: WorkersError | None = None
        self._changed = asyncio.Event()

    def order(self, order: Order) -> None:
        """Send an order to all workers."""
        for pipe in self._pipes:
            pipe.send(order)

    async def until_done(self) -> None:
        """Wait until every worker has completed its job. Raises WorkersError."""
        await self._until(lambda: len(self._done) == len(self._jobs))

    def check(self) -> None:
        """Raise WorkersError if a worker has reported trouble."""
        if self._problem is not None:
            raise self._problem

    async def __aenter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        loop = asyncio.get_running_loop()
        for job in self._jobs:
            ours, theirs = context.Pipe()
            process = context.Process(target=worker.main, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
            listener = threading.Thread(
                target=self._listen, args=(job.worker, ours, loop), daemon=True
            )
            listener.start()
            self._listeners.append(listener)
        for pipe, job in zip(self._pipes, self._jobs, strict=True):
            pipe.send(job)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._until(lambda: self._ready == len(self._jobs))
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.check()
            self._changed.clear()
            await self._changed.wait()
        self.check()

    def _listen(self, worker: int, pipe: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Forward a worker's messages in a thread: a loop would make the pipe non-blocking."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            try:
                while True:
                    loop.call_soon_threadsafe(self._hear, pipe.recv())
            except (EOFError, OSError):
                loop.call_soon_threadsafe(self._miss, worker)

    def _miss(self, worker: int) -> None:
        """Handle the end of a worker, which is an error unless it has completed its job."""
        if worker not in self._done:
            self._problem = self._problem or WorkersError("a worker process has died")
        self._changed.set()

    def _hear(self, report: Report) -> None:
        match report:
            case Progress():
                self._heard(report)
                return
            case Ready():
                self._ready += 1
            case Done():
                self._done.add(report.worker)
            case Trouble():
                self._problem = WorkersError(report.what)
        self._changed.set()

    async def _end(self) -> None:
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(Stop())
        for process in self._processes:
            await asyncio.to_thread(process.join, END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe, listener in zip(self._pipes, self._listeners, strict=True):
            listener.join()
            pipe.close()
