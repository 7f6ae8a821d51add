"""Shared fixtures: a Redis for each worker, and a whole stack for each module that asks for one."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clock import FakeClock
from tools.support.processes.redis import RedisServer
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

# Background jobs of a shell ignore SIGINT, and nohup ignores SIGHUP; child processes would inherit
# that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The duration of an example says more about the machine than about the tested code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


class StartStack(Protocol):
    """Starts a stack that lives as long as the module's tests; arguments as for Stack."""

    def __call__(self, **options: Any) -> Stack: ...


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that share a module's stack in one worker."""
    for item in items:
        if "start_stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that tests advance."""
    return FakeClock()


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests of this worker; `redis_server` is what tests ask for."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """Return a running, empty Redis, whatever the last test did to it."""
    redis_process.make_empty()
    return redis_process


@pytest.fixture(scope="module")
def start_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartStack]:
    """Return a function that starts stacks for the module."""
    with ExitStack() as stacks:

        def start(**options: Any) -> Stack:
            return stacks.enter_context(Stack(tmp_path_factory.mktemp("stack"), **options))

        yield start


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and two gateways, shared by the module's tests."""
    return start_stack()
