"""A worker process: opens connections for its job and reports progress several times a second."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Final

import uvloop

from tools.load.client.devices import LoadDevice
from tools.load.client.dialer import Dialer, Unreachable, raise_descriptor_limit
from tools.load.workers.churn import Churn
from tools.load.workers.holding import Holding
from tools.load.workers.messages import Done, Go, Job, Order, Ready, Stop, Trouble

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

REPORT_SECONDS: Final = 0.25


def main(pipe: Connection) -> None:
    """Run the job received through the pipe; only the coordinator ends it, so Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = pipe.recv()
    if job.cpus:
        os.sched_setaffinity(0, job.cpus)
    try:
        uvloop.run(_work(pipe, job))
    except Unreachable as error:
        pipe.send(Trouble(job.worker, str(error)))
    except (EOFError, BrokenPipeError):
        pass  # the coordinator has ended


async def _work(pipe: Connection, job: Job) -> None:
    raise_descriptor_limit()
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[Order] = asyncio.Queue()

    def hear() -> None:
        # A thread, because the event loop would make the pipe non-blocking, and messages may be
        # long.
        with contextlib.suppress(RuntimeError):  # the loop has ended
            try:
                while True:
                    loop.call_soon_threadsafe(orders.put_nowait, pipe.recv())
            except (EOFError, OSError):
                loop.call_soon_threadsafe(orders.put_nowait, Stop())  # the coordinator has ended

    drive = await _drive(job)
    threading.Thread(target=hear, daemon=True).start()
    pipe.send(Ready(job.worker))
    go = await orders.get()
    if not isinstance(go, Go):
        return
    running = loop.create_task(drive.run(go.at))
    obeying = loop.create_task(_obey(orders, drive))
    while not running.done():
        await asyncio.wait([running], timeout=REPORT_SECONDS)
        pipe.send(drive.progress())
    obeying.cancel()
    running.result()
    pipe.send(Done(job.worker))


async def _drive(job: Job) -> Churn | Holding:
    first_source = job.worker * len(job.sources) // job.workers
    dialer = Dialer(job.target, job.sources, first_source)
    await dialer.prepare()
    devices = [
        LoadDevice(identity, job.gateway_token, index)
        for index, identity in enumerate(job.identities)
    ]
    if job.hold is not None:
        return Holding(job, job.hold, devices, dialer)
    # Workers start at different devices, so that two seldom use the same one at once.
    first = job.worker * len(devices) // job.workers
    return Churn(job, devices[first:] + devices[:first], dialer)


async def _obey(orders: asyncio.Queue[Order], drive: Churn | Holding) -> None:
    while True:
        drive.order(await orders.get())
