"""The client's address behind a proxy."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from tests.integration.gateway.harness import TOKEN, GatewayHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

TRUSTED = (ipaddress.ip_network("127.0.0.9"),)
PROXY = "127.0.0.9"
"""The trusted proxy's network."""


@pytest.fixture
async def harness() -> AsyncIterator[GatewayHarness]:
    async with GatewayHarness(trusted_proxies=TRUSTED) as harness:
        yield harness


async def address_of(harness: GatewayHarness, source: str, *headers: tuple[str, str]) -> str:
    """Connect from there with these headers; returns the address reported to approval."""
    async with await harness.raw(source=source, headers=headers) as raw:
        answer = await raw.connect(DeviceKey.generate(), CLI, Credentials(token=TOKEN))
        assert answer["ok"], answer
    return harness.approvals.asked[-1].address


class TestTrusted:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ([("X-Real-IP", "203.0.113.9")], "203.0.113.9"),
            ([("X-Real-IP", "2001:db8::9")], "2001:db8::9"),
            ([("X-Forwarded-For", "198.51.100.1, 203.0.113.9")], "203.0.113.9"),
            ([("X-Forwarded-For", "203.0.113.9, 127.0.0.9")], "203.0.113.9"),
            (
                [("X-Real-IP", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.1")],
                "203.0.113.9",
            ),
            (
                [("X-Real-IP", "198.51.100.1"), ("X-Real-IP", "203.0.113.9")],
                PROXY,
            ),
            ([("X-Real-IP", "no address")], PROXY),
            ([("X-Forwarded-For", "203.0.113.6:43462")], "203.0.113.6"),
            ([("X-Real-IP", "[2001:db8::5]:443")], "2001:db8::5"),
            ([("X-Forwarded-For", "198.51.100.1, fe80::1%eth0")], "fe80::1"),
            ([("Forwarded", 'for="[2001:db8::5]:443";proto=https')], "2001:db8::5"),
            ([("Forwarded", "for=203.0.113.6"), ("Forwarded", "for=127.0.0.9")], "203.0.113.6"),
            ([("Forwarded", "for=unknown")], PROXY),
            ([("Forwarded", "for=198.51.100.1"), ("X-Real-IP", "203.0.113.9")], "203.0.113.9"),
            ([], PROXY),
        ],
    )
    async def test_its_header_counts(
        self, harness: GatewayHarness, headers: Sequence[tuple[str, str]], expected: str
    ) -> None:
        assert await address_of(harness, PROXY, *headers) == expected

    async def test_its_clients_are_limited_one_by_one(self) -> None:
        async with GatewayHarness(trusted_proxies=TRUSTED, preauth_limit=1) as harness:
            statuses = [
                (await harness.raw(source=PROXY, headers=[("X-Real-IP", client)])).status
                for client in ("203.0.113.1", "203.0.113.2", "203.0.113.1")
            ]
        assert statuses == [101, 101, 503]


class TestUntrusted:
    @pytest.mark.parametrize(
        "header",
        [
            ("X-Real-IP", "203.0.113.9"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("Forwarded", "for=203.0.113.9"),
        ],
        ids=lambda header: header[0],
    )
    async def test_the_header_of_an_untrusted_peer_is_ignored(
        self, harness: GatewayHarness, header: tuple[str, str]
    ) -> None:
        assert await address_of(harness, "127.0.0.5", header) == "127.0.0.5"

    async def test_the_limiters_key_is_the_peer(self) -> None:
        async with GatewayHarness(trusted_proxies=TRUSTED, preauth_limit=2) as harness:
            statuses = [
                (await harness.raw(headers=[("X-Real-IP", f"203.0.113.{number}")])).status
                for number in range(3)
            ]
        assert statuses == [101, 101, 503]

    async def test_it_is_named_once_in_the_log_with_what_to_do(
        self, harness: GatewayHarness
    ) -> None:
        with capture_logs() as lines:
            for source in ("127.0.0.5", "127.0.0.5", "127.0.0.6", "127.0.0.5"):
                await address_of(harness, source, ("X-Real-IP", "203.0.113.9"))
            await address_of(harness, PROXY, ("X-Real-IP", "203.0.113.9"))
            await address_of(harness, "127.0.0.7")
        logged = [line for line in lines if line["event"] == "proxy.untrusted"]
        assert [line["peer"] for line in logged] == ["127.0.0.5", "127.0.0.6"]
        assert all("TRUSTED_PROXIES" in line["advice"] for line in logged)
        assert harness.sockets.clients.untrusted == {"127.0.0.5", "127.0.0.6"}

    async def test_not_everybody_is_remembered(self, harness: GatewayHarness) -> None:
        with capture_logs() as lines:
            for number in range(1, 101):
                raw = await harness.raw(
                    source=f"127.0.1.{number}", headers=[("X-Real-IP", "203.0.113.9")]
                )
                raw.hang_up()
        logged = [line for line in lines if line["event"] == "proxy.untrusted"]
        assert len(logged) == len(harness.sockets.clients.untrusted) == 64


class TestUnreadable:
    async def test_the_proxy_stands_for_its_client_and_is_named_once(
        self, harness: GatewayHarness
    ) -> None:
        clients = harness.sockets.clients
        with capture_logs() as lines:
            for _ in range(2):
                assert await address_of(harness, PROXY, ("X-Forwarded-For", "a, unknown")) == PROXY
            assert clients.unreadable == {PROXY: "X-Forwarded-For"}
            (warning,) = clients.health().warnings
            assert warning.startswith(f"{PROXY} ")
            await address_of(harness, PROXY, ("X-Forwarded-For", "203.0.113.6:1"))
            assert clients.unreadable == {}
            assert clients.health().warnings == ()
            await address_of(harness, PROXY, ("Forwarded", "for=_hidden"))
        logged = [line for line in lines if line["event"] == "proxy.unreadable"]
        assert [(line["peer"], line["header"], line["value"]) for line in logged] == [
            (PROXY, "X-Forwarded-For", "a, unknown")
        ]
        assert clients.unreadable == {PROXY: "Forwarded"}
        name = "latchkey_gateway_unreadable_proxies_total"
        assert harness.metrics.registry.get_sample_value(name) == 3

    async def test_a_client_of_another_peer_cannot_make_it_so(
        self, harness: GatewayHarness
    ) -> None:
        with capture_logs() as lines:
            await address_of(harness, "127.0.0.5", ("X-Forwarded-For", "unknown"))
        assert harness.sockets.clients.unreadable == {}
        assert [line["event"] for line in lines if "proxy" in line["event"]] == ["proxy.untrusted"]

    async def test_long_headers_are_cut_in_the_log(self, harness: GatewayHarness) -> None:
        with capture_logs() as lines:
            await address_of(harness, PROXY, ("X-Forwarded-For", "x" * 5000 + "end"))
        (line,) = [line for line in lines if line["event"] == "proxy.unreadable"]
        assert len(line["value"]) == 100
        assert line["value"].endswith("xend")
