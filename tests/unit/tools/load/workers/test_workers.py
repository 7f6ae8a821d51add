"""Workers start and stop: those that are done may stop first, and none stops before it is done."""

from __future__ import annotations

import pytest

from tools.load.client.target import read_target
from tools.load.workers.messages import Done, Job, Trouble
from tools.load.workers.processes import Workers, WorkersError


def crew_of(workers: int) -> Workers:
    target = read_target("ws://127.0.0.1:1")
    jobs = [
        Job(
            worker=worker,
            workers=workers,
            target=target,
            sources=[],
            gateway_token="",
            identities=[],
            timeout=1.0,
            phases=(),
            hold=None,
        )
        for worker in range(workers)
    ]
    return Workers(jobs, lambda _progress: None)


async def test_a_worker_that_is_done_may_exit_before_the_others() -> None:
    workers_ = crew_of(2)
    workers_._hear(Done(0))
    workers_._miss(0)
    workers_.check()
    workers_._hear(Done(1))
    await workers_.until_done()


async def test_a_worker_that_exits_before_it_is_done_fails_the_run() -> None:
    workers_ = crew_of(2)
    workers_._hear(Done(0))
    workers_._miss(1)
    with pytest.raises(WorkersError, match="has died"):
        await workers_.until_done()


async def test_the_reason_of_a_worker_that_failed_is_reported() -> None:
    workers_ = crew_of(1)
    workers_._hear(Trouble(0, "no such host"))
    workers_._miss(0)
    with pytest.raises(WorkersError, match="no such host"):
        await workers_.until_done()
