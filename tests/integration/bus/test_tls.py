"""rediss:// with certificate verification."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from shared.bus.channels import EVENTS
from shared.redis.access import make_client
from tests.integration.bus.members import Member, member, until_heard
from tools.support.proxies.faults import FaultProxy
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tools.support.processes.redis import RedisServer

# Made for these tests and good for nothing else; valid for a hundred years.
CERTIFICATE: Final = Path(__file__).parent / "tls" / "certificate.pem"
KEY: Final = Path(__file__).parent / "tls" / "key.pem"


@pytest.fixture
async def relay(redis_server: RedisServer) -> AsyncIterator[FaultProxy]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE, KEY)
    async with FaultProxy(redis_server.port, tls) as relay:
        yield relay


def over_tls(url: str, relay: FaultProxy, query: str = "") -> str:
    login = url.removeprefix("redis://").rpartition("@")[0]
    return f"rediss://{login}@localhost:{relay.port}/0{query}"


async def test_the_bus_works_over_tls(redis_server: RedisServer, relay: FaultProxy) -> None:
    url = over_tls(redis_server.member_url, relay, f"?ssl_ca_certs={CERTIFICATE}")
    async with member(url) as peer:
        await until_heard(peer, b"over TLS")
        assert await peer.publish(EVENTS, bytes(2_000_000)) == 1
        await until(lambda: len(peer.messages[-1][1]) == 2_000_000, "a large one came")
        redis_server.call("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: peer.subscribed == 2, "subscribed again")


async def test_a_client_works_over_tls(redis_server: RedisServer, relay: FaultProxy) -> None:
    url = over_tls(redis_server.approval_url, relay, f"?ssl_ca_certs={CERTIFICATE}")
    async with make_client(url, max_connections=1, timeout_seconds=5.0) as client:
        assert await client.incr("latchkey:n") == 1


async def test_an_untrusted_certificate_is_refused_and_named(
    redis_server: RedisServer, relay: FaultProxy
) -> None:
    async with Member(over_tls(redis_server.member_url, relay)).running() as peer:
        await until(lambda: "certificate" in peer.bus.status()[1].lower(), "refused")
        assert not peer.ok
        assert peer.subscribed == 0
