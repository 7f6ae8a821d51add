"""Operators signed in by an identity-aware proxy: whose header is believed, and for what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.approval.access.authenticator import PROXY_STREAM_MS
from services.approval.access.csrf import PAGE_HEADER
from tests.integration.approval.operator import BEARER, Operator
from tests.integration.approval.replica import Replica, replica
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

USER, GROUPS = "X-Forwarded-Email", "X-Forwarded-Groups"
SETTINGS: dict[str, Any] = {
    "OPERATOR_PROXY_USER_HEADER": USER,
    "OPERATOR_PROXY_GROUPS_HEADER": GROUPS,
    "OPERATOR_PROXY_PERMISSIONS": "group:sre=manage,group:support=decide,user:eve@example.com=view",
    "TRUSTED_PROXIES": "127.0.0.1,::1",
}
ALICE = {USER: "alice@example.com", GROUPS: "staff,support"}


@pytest.fixture
async def behind(redis_server: RedisServer, clock: FakeClock) -> AsyncIterator[Replica]:
    """Return a replica behind a trusted proxy: this machine."""
    async with replica(redis_server.approval_url, clock, **SETTINGS) as server:
        await server.store.liveness.write_alive("behind")
        yield server


@pytest.fixture
async def proxy(behind: Replica) -> AsyncIterator[Operator]:
    async with Operator(behind) as item:
        yield item


def counted(server: Replica, outcome: str) -> float:
    value = server.metrics.registry.get_sample_value(
        "latchkey_approval_proxy_sign_ins_total", {"outcome": outcome}
    )
    assert value is not None
    return value


def from_page(at: Operator, headers: dict[str, str]) -> dict[str, str]:
    """Return these headers with those that the page adds."""
    return {**headers, "Origin": str(at.url.origin()), PAGE_HEADER: "1"}


class TestTrusted:
    async def test_a_mapped_user_gets_in_and_is_named(
        self, proxy: Operator, behind: Replica
    ) -> None:
        session = (await proxy.call("GET", "/v1/session", headers=ALICE)).ok()
        assert session == {
            "operator": "sso:alice@example.com",
            "permission": "decide",
            "signedInBy": "proxy",
        }
        asked = await behind.request(Device.new().asks())
        path = f"/v1/requests/{asked.request_id}/approve"
        (await proxy.call("POST", path, headers=from_page(proxy, ALICE))).ok()
        entries = (await proxy.call("GET", "/v1/audit", headers=ALICE)).ok()["entries"]
        assert entries[-1]["actor"] == "operator:sso:alice@example.com"
        assert counted(behind, "accepted") == 3

    async def test_the_permission_is_limited_as_for_others(self, proxy: Operator) -> None:
        eve = {USER: "eve@example.com"}
        (await proxy.call("GET", "/v1/requests", headers=eve)).ok()
        reply = await proxy.call("DELETE", "/v1/devices/" + "0" * 64, headers=from_page(proxy, eve))
        reply.problem(403, "not-allowed")
        (await proxy.call("GET", "/v1/operators", headers=ALICE)).problem(403, "not-allowed")
        boss = {USER: "boss@example.com", GROUPS: "sre"}
        (await proxy.call("GET", "/v1/operators", headers=boss)).ok()

    @pytest.mark.parametrize(
        "headers", [{USER: "bob@example.com"}, {USER: "bob@example.com", GROUPS: "staff"}]
    )
    async def test_nobody_without_a_mapping_gets_in(
        self, proxy: Operator, behind: Replica, headers: dict[str, str]
    ) -> None:
        reply = await proxy.call("GET", "/v1/requests", headers=headers)
        reply.problem(401, "unauthorized")
        assert "OPERATOR_PROXY_PERMISSIONS" in reply.body["detail"]
        assert counted(behind, "unmapped") == 1

    @pytest.mark.parametrize("twice", [USER, GROUPS, USER.lower()])
    async def test_a_repeated_header_is_refused(
        self, proxy: Operator, behind: Replica, twice: str
    ) -> None:
        values = {USER.lower(): ALICE[USER], **ALICE}
        answer = await proxy.raw(
            "GET /v1/requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"{USER}: {ALICE[USER]}\r\n{GROUPS}: {ALICE[GROUPS]}\r\n{twice}: {values[twice]}\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert counted(behind, "ambiguous") == 1

    @pytest.mark.parametrize("missing", ["Origin", PAGE_HEADER])
    async def test_another_site_can_change_nothing(
        self, proxy: Operator, behind: Replica, missing: str
    ) -> None:
        """A browser signed in at the proxy is signed in for requests of every site."""
        asked = await behind.request(Device.new().asks())
        headers = from_page(proxy, ALICE)
        del headers[missing]
        path = f"/v1/requests/{asked.request_id}/approve"
        (await proxy.call("POST", path, headers=headers)).problem(403, "cross-site")
        evil = {**from_page(proxy, ALICE), "Origin": "https://evil.example"}
        (await proxy.call("POST", path, headers=evil)).problem(403, "cross-site")
        reads = {**ALICE, "Sec-Fetch-Site": "cross-site"}
        (await proxy.call("GET", "/v1/requests", headers=reads)).problem(403, "cross-site")

    async def test_a_token_goes_before_the_header(self, proxy: Operator) -> None:
        both = {**ALICE, **BEARER}
        assert (await proxy.call("GET", "/v1/session", headers=both)).ok()["operator"] == "admin"
        wrong = {**ALICE, "Authorization": "Bearer " + "x" * 40}
        (await proxy.call("GET", "/v1/session", headers=wrong)).problem(401, "unauthorized")

    async def test_what_needs_a_token_cannot_be_done(self, proxy: Operator) -> None:
        boss = {USER: "boss@example.com", GROUPS: "sre"}
        (await proxy.call("GET", "/v1/backup", headers=boss)).problem(401, "unauthorized")
        reply = await proxy.call("POST", "/v1/session", headers=from_page(proxy, boss))
        reply.problem(401, "unauthorized")

    async def test_a_stream_has_to_be_opened_again(
        self, proxy: Operator, behind: Replica, clock: FakeClock
    ) -> None:
        """Only the proxy knows when a user has lost access, so it is asked again in time."""
        url = proxy.url.with_path("/v1/events")
        async with proxy._client.session.get(url, headers=ALICE) as response:
            assert response.status == 200
            assert (await response.content.readline()).startswith(b"retry")
            clock.advance(PROXY_STREAM_MS / 1000 + 1)
            await response.content.read()
            assert response.content.at_eof()


class TestNotTrusted:
    async def test_the_header_of_another_peer_is_ignored_and_counted(
        self, redis_server: RedisServer
    ) -> None:
        settings: dict[str, Any] = {**SETTINGS, "TRUSTED_PROXIES": "192.0.2.0/24"}
        async with (
            replica(redis_server.approval_url, **settings) as server,
            Operator(server) as direct,
        ):
            reply = await direct.call("GET", "/v1/requests", headers=ALICE)
            assert "WWW-Authenticate" in reply.headers
            assert reply.problem(401, "unauthorized") == {}
            assert "OPERATOR_PROXY" not in reply.text
            forged = {**ALICE, "X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1"}
            reply = await direct.call("GET", "/v1/requests", headers=forged)
            reply.problem(401, "unauthorized")
            assert (counted(server, "untrusted"), counted(server, "accepted")) == (2, 0)

    async def test_without_settings_the_header_means_nothing(
        self, redis_server: RedisServer
    ) -> None:
        async with (
            replica(redis_server.approval_url, TRUSTED_PROXIES="127.0.0.1,::1") as server,
            Operator(server) as direct,
        ):
            reply = await direct.call("GET", "/v1/requests", headers=ALICE)
            reply.problem(401, "unauthorized")
            assert counted(server, "accepted") == counted(server, "untrusted") == 0
