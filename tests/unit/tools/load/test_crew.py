"""Workers start and stop: those that are done may stop first, and none stops before it is done."""

from __future__ import annotations

import pytest

from tools.load.crew import Crew, CrewError
from tools.load.messages import Done, Job, Trouble
from tools.load.target import read_target


def crew_of(workers: int) -> Crew:
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
    return Crew(jobs, lambda _progress: None)


async def test_a_worker_that_is_done_may_exit_before_the_others() -> None:
    crew = crew_of(2)
    crew._hear(Done(0))
    crew._miss(0)
    crew.check()
    crew._hear(Done(1))
    await crew.until_done()


async def test_a_worker_that_exits_before_it_is_done_fails_the_run() -> None:
    crew = crew_of(2)
    crew._hear(Done(0))
    crew._miss(1)
    with pytest.raises(CrewError, match="has died"):
        await crew.until_done()


async def test_the_reason_of_a_worker_that_failed_is_reported() -> None:
    crew = crew_of(1)
    crew._hear(Trouble(0, "no such host"))
    crew._miss(0)
    with pytest.raises(CrewError, match="no such host"):
        await crew.until_done()
