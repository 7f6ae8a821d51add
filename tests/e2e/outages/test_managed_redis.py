"""Redis as managed services offer it: less is permitted, and less is promised."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from services.cli.doctor import redis_causes
from tests.integration.bus.test_tls import CERTIFICATE, KEY
from tests.support.managed_redis import MISSING, ManagedRedis, Resp3Only
from tests.support.sentinel_stack import said_of
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.processes.redis import RedisServer
from tools.support.processes.stack import Stack
from tools.support.proxies.faults import FaultProxy
from tools.support.waiting import until
from tools.support.walking import warned_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON_SECONDS = 1.0
"""Well below the timeout of a command."""


@contextmanager
def services(directory: Path, url: str) -> Iterator[Stack]:
    """Start an approval and a gateway with this Redis, and wait until they are ready."""
    stack = Stack(directory, approvals=1, gateways=1, env={"REDIS_URL": url})
    try:
        for service in stack.services:
            service.start()
        yield stack
    finally:
        stack.close()


async def until_ready(stack: Stack) -> None:
    for service in stack.services:
        await service.until_ready()


async def all_works(stack: Stack) -> SimulatedDevice:
    """Pair a device, remove another one, and return the first."""
    await until_ready(stack)
    device, removed = await pair(stack), await pair(stack)
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.remove(removed.device_id)).ok()
        assert device.device_id in await operator.devices()
    refused = await removed.expect_refusal(stack.gateways[0], with_gateway_token=False)
    assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
    await device.reconnect(stack.gateways[0], with_gateway_token=False)
    return device


class TestMissingCommands:
    @pytest.mark.parametrize("missing", [MISSING, (*MISSING, "INFO")], ids=["usual", "and INFO"])
    async def test_all_works_and_readiness_says_what_is_missing(
        self, tmp_path: Path, missing: tuple[str, ...]
    ) -> None:
        with (
            ManagedRedis(tmp_path / "redis", missing=missing) as redis,
            services(tmp_path, redis.url()) as stack,
        ):
            await all_works(stack)
            approval, gateway = stack.approvals[0], stack.gateways[0]
            await until(lambda: said_of(approval, "store").get("warnings"), "it has looked")
            disk, confirmation = said_of(approval, "store")["warnings"]
            refused = "INFO" if "INFO" in missing else "CONFIG GET"
            assert f"{refused} is refused" in disk
            assert confirmation.startswith("WAIT is refused")
            env = {"OPENCLAW_GATEWAY_TOKEN": stack.gateway_token, "APPROVAL_URL": approval.url}
            for cause in (redis_causes.UNCHECKED, redis_causes.NO_CONFIRMATION):
                await warned_of(gateway.ws_url, cause, env=env)


class TestConnections:
    async def test_all_works_over_tls_with_a_ca_file(self, tmp_path: Path) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(CERTIFICATE, KEY)
        with ManagedRedis(tmp_path / "redis") as redis:
            async with FaultProxy(redis.port, tls) as relay:
                url = redis.url(relay.port, scheme="rediss", options=f"?ssl_ca_certs={CERTIFICATE}")
                with services(tmp_path, url) as stack:
                    await all_works(stack)

    async def test_all_works_where_only_resp3_is_spoken(self, tmp_path: Path) -> None:
        with ManagedRedis(tmp_path / "redis") as redis:
            async with Resp3Only(redis.port) as proxy:
                url = redis.url(proxy.port, options="?protocol=3")
                with services(tmp_path, url) as stack:
                    await all_works(stack)
                assert not proxy.refused

    async def test_where_only_resp3_is_spoken_resp2_is_refused_with_that_reason(
        self, tmp_path: Path
    ) -> None:
        with ManagedRedis(tmp_path / "redis") as redis:
            async with Resp3Only(redis.port) as proxy:
                with services(tmp_path, redis.url(proxy.port)) as stack:
                    gateway = stack.gateways[0]
                    await gateway.until_not_ready()
                    await until(
                        lambda: "only RESP3" in said_of(gateway, "redis")["reason"], "it says why"
                    )

    async def test_connections_that_are_dropped_silently_end_no_admission_for_long(
        self, tmp_path: Path
    ) -> None:
        with ManagedRedis(tmp_path / "redis") as redis:
            async with FaultProxy(redis.port) as way:
                with services(tmp_path, redis.url(way.port)) as stack:
                    device = await all_works(stack)
                    way.swallow()
                    await device.reconnect(stack.gateways[0])
                    await until_ready(stack)
                    assert len(await paired(stack)) == 1

    async def test_a_name_that_leads_to_another_server_is_looked_up_again(
        self, tmp_path: Path
    ) -> None:
        """The address behind the name changes, and the old server becomes a replica."""
        (tmp_path / "new").mkdir()
        with RedisServer(tmp_path) as old, RedisServer(tmp_path / "new", like=old) as new:
            new.follow(old)
            async with FaultProxy(old.port) as way:
                urls = [
                    url.replace(f":{old.port}/", f":{way.port}/")
                    for url in (old.approval_url, old.gateway_url)
                ]
                stack = Stack(tmp_path, approvals=1, gateways=1)
                try:
                    for service, url in zip(stack.services, urls, strict=True):
                        service.start(REDIS_URL=url)
                    device = await all_works(stack)
                    new.lead()
                    old.follow(new)
                    way.lead_to(new.port)
                    await until(
                        lambda: "redis.demoted" in stack.approvals[0].log_text(), "it has noticed"
                    )
                    await device.reconnect(stack.gateways[0])
                    await all_works(stack)
                finally:
                    stack.close()


async def paired(stack: Stack) -> list[str]:
    async with Operator(stack, stack.approvals[0]) as operator, asyncio.timeout(SOON_SECONDS):
        return list(await operator.devices())
