"""The stack that other tests use: real processes that can be harmed and restored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from deploy.local.errors import ChildDied
from deploy.local.programs.readiness import ask_ready
from tools.support.processes.process_table import alive, descendants
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartStack


class TestStarted:
    def test_each_service_has_a_port_a_name_and_a_boot_id_of_its_own(self, stack: Stack) -> None:
        names = [service.name for service in stack.services]
        assert names == ["approval-1", "gateway-1", "gateway-2"]
        assert len({service.port for service in stack.services}) == 3
        assert len({service.boot_id for service in stack.services}) == 3

    def test_logs_are_read_as_json(self, stack: Stack) -> None:
        for service in stack.services:
            assert service.logs(), service.log_text()
            assert all("event" in line for line in service.logs())

    def test_more_can_be_added(self, stack: Stack) -> None:
        added = stack.add_gateway()
        assert added.name == "gateway-3"
        answer = added.ready_answer()
        assert answer is not None
        assert answer.ready


class TestHarm:
    async def test_a_restart_keeps_the_port_and_changes_the_boot_id(self, stack: Stack) -> None:
        gateway = stack.gateways[0]
        port, boot_id = gateway.port, gateway.boot_id
        lines = len(gateway.logs())
        gateway.kill9()
        assert await gateway.until_ended() == -9
        assert gateway.ready_answer() is None
        gateway.start()
        await gateway.until_ready()
        assert gateway.port == port
        assert gateway.boot_id != boot_id
        assert len(gateway.logs()) > lines

    def test_a_paused_service_answers_nobody_until_it_goes_on(self, stack: Stack) -> None:
        approval = stack.approvals[0]
        approval.pause()
        assert ask_ready(approval.port, timeout_seconds=0.3) == []
        approval.resume()
        approval.wait_ready()

    def test_terminate_is_a_good_end(self, stack: Stack) -> None:
        gateway = stack.gateways[1]
        gateway.terminate()
        assert gateway.wait_ended() == 0
        gateway.restart()

    async def test_without_redis_nobody_is_ready(self, stack: Stack) -> None:
        stack.redis.pause()
        for service in stack.services:
            await service.until_not_ready()
        stack.redis.resume()
        for service in stack.services:
            await service.until_ready()


class TestSettings:
    def test_secrets_may_be_given(self, start_stack: StartStack) -> None:
        stack = start_stack(
            gateways=1,
            env={"BUS_SECRET": "b" * 32},
            approval_env={"APPROVAL_ADMIN_TOKEN": "n" * 32 + "," + "o" * 32},
            gateway_env={"OPENCLAW_GATEWAY_TOKEN": "g" * 32},
        )
        assert stack.admin_token == "n" * 32
        assert stack.gateway_token == "g" * 32
        stack.gateways[0].restart(BUS_SECRET="b" * 32 + "," + "c" * 32)

    def test_a_process_that_ends_at_the_start_is_reported_at_once(self, tmp_path: Path) -> None:
        with (
            pytest.raises(ChildDied, match="LOG_LEVEL=loud"),
            Stack(tmp_path, gateway_env={"LOG_LEVEL": "loud"}),
        ):
            pass


def test_nothing_is_left_of_a_stack_that_ended(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    with Stack(tmp_path, gateways=1) as stack:
        started = descendants(os.getpid()) - before
        assert len(started) >= 3
        assert stack.gateways[0].pid in {process.pid for process in started}
    assert not alive(started)
