"""Headers that a client forges to appear local."""

from __future__ import annotations

import ipaddress

import pytest
from msgspec import structs
from multidict import CIMultiDict

from services.gateway.handshake.outcome import RequestInfo
from shared.addresses.client import client_address
from shared.device.profile import CONTROL_UI
from tests.support.attempts import (
    connect,
    detail_code,
    question_of,
    refusal_of,
)

FORGED = [
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": "10.0.0.1, 127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1;host=localhost"},
    {"X-Forwarded-Host": "localhost"},
    {"X-Railway-Edge": "railway/us", "X-Railway-Request-Id": "x"},
    {"Host": "localhost:18789"},
    {},
]
PROXY = (ipaddress.ip_network("10.9.0.0/16"),)


def peer_of(
    remote: str, headers: CIMultiDict[str], host: str = "localhost"
) -> tuple[RequestInfo, str]:
    """Return the RequestInfo for a TCP peer and its headers, and the limiter's key."""
    where = client_address(remote, headers, PROXY)
    return RequestInfo(
        where.address.text, where.direct_loopback, host, None
    ), where.address.limit_key


class TestForgedHeaders:
    @pytest.mark.parametrize("headers", FORGED, ids=str)
    def test_headers_of_an_untrusted_peer_are_ignored(self, headers: dict[str, str]) -> None:
        peer, key = peer_of("203.0.113.7", CIMultiDict(headers))
        assert (peer.address, peer.direct_loopback, key) == ("203.0.113.7", False, "203.0.113.7")
        local_page = structs.replace(peer, origin="http://localhost:18789", host="localhost:18789")
        refusal = refusal_of(connect(CONTROL_UI), local_page)
        assert detail_code(refusal) == "CONTROL_UI_ORIGIN_NOT_ALLOWED"
        assert question_of(connect(), peer).address == "203.0.113.7"

    @pytest.mark.parametrize("headers", FORGED[:5], ids=str)
    def test_a_proxy_on_this_machine_ends_locality(self, headers: dict[str, str]) -> None:
        peer, _ = peer_of("127.0.0.1", CIMultiDict(headers))
        assert not peer.direct_loopback

    @pytest.mark.parametrize(
        ("headers", "address"),
        [
            ([("X-Real-IP", "198.51.100.1")], "198.51.100.1"),
            ([("X-Real-IP", "127.0.0.1"), ("X-Real-IP", "198.51.100.1")], "10.9.0.1"),
            ([("X-Forwarded-For", "127.0.0.1, 198.51.100.1")], "198.51.100.1"),
            ([("X-Forwarded-For", "198.51.100.1, 10.9.0.2")], "198.51.100.1"),
            (
                [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-For", "198.51.100.1")],
                "198.51.100.1",
            ),
            ([("X-Forwarded-For", "198.51.100.1, junk")], "10.9.0.1"),
        ],
    )
    def test_through_a_trusted_proxy_the_client_cannot_choose(
        self, headers: list[tuple[str, str]], address: str
    ) -> None:
        peer, key = peer_of("10.9.0.1", CIMultiDict(headers))
        assert (peer.address, key, peer.direct_loopback) == (address, address, False)

    def test_loopback_named_by_a_trusted_proxy_is_not_direct(self) -> None:
        peer, _ = peer_of("10.9.0.1", CIMultiDict({"X-Real-IP": "127.0.0.1"}))
        assert not peer.direct_loopback
