"""Client addresses: every form in which proxies write them, and which cannot be forged."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from shared.addresses.client import (
    FORWARDING_HEADERS,
    ClientAddress,
    client_address,
    over_https,
)
from shared.addresses.forwarding import host_of

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
PROXY = "10.0.0.1"
CLIENT = "203.0.113.6"
V6_CLIENT = "2001:db8::5"

FORMS = [
    (CLIENT, CLIENT),
    (f"{CLIENT}:43462", CLIENT),
    (f" {CLIENT} ", CLIENT),
    (f"[{CLIENT}]:80", CLIENT),
    (f'"{CLIENT}:43462"', CLIENT),
    (V6_CLIENT, V6_CLIENT),
    ("2001:DB8:0::5", V6_CLIENT),
    (f"[{V6_CLIENT}]", V6_CLIENT),
    (f"[{V6_CLIENT}]:443", V6_CLIENT),
    (f'"[{V6_CLIENT}]:443"', V6_CLIENT),
    (f"{V6_CLIENT}%eth0", V6_CLIENT),
    (f"[{V6_CLIENT}%eth0]:443", V6_CLIENT),
    ("fe80::1%25eth0", "fe80::1"),
    ("[fe80::1%eth0]", "fe80::1"),
    (f"::ffff:{CLIENT}", CLIENT),
    (f"[::ffff:{CLIENT}]:1", CLIENT),
    (f"[::ffff:{CLIENT}%2]:1", CLIENT),
]
UNREADABLE = [
    "unknown",
    "_hidden",
    "client.example",
    "client.example:80",
    f"{CLIENT}:",
    f"{CLIENT}:http",
    f"{CLIENT}:123456",
    f"{CLIENT} 43462",
    f"{CLIENT};43462",
    f"[{V6_CLIENT}",
    f"{V6_CLIENT}]",
    f"[{V6_CLIENT}]443",
    f"[{V6_CLIENT}]:x",
    "[]:80",
    ":80",
    "203.0.113",
    "203.0.113.256",
    "203.0.113.06",
    "2001:db8::g",
    f'"{CLIENT}',
]


def found(*headers: tuple[str, str], peer: str = PROXY) -> ClientAddress:
    return client_address(peer, CIMultiDict(headers), TRUSTED)


def named(*headers: tuple[str, str]) -> str:
    """Return the address in a trusted proxy's headers, which must be readable."""
    where = found(*headers)
    assert not where.unreadable
    assert not where.direct_loopback
    return where.address.text


def assert_unreadable(header: str, *headers: tuple[str, str]) -> None:
    where = found(*headers)
    assert (where.address.text, where.unreadable) == (PROXY, header)


class TestForms:
    @pytest.mark.parametrize(("written", "address"), FORMS)
    def test_addresses_in_x_forwarded_for_are_read(self, written: str, address: str) -> None:
        assert named(("X-Forwarded-For", written)) == address
        assert named(("X-Forwarded-For", f"198.51.100.1, {written}")) == address
        assert named(("X-Forwarded-For", f"{written},10.0.0.2:81 , [fd00::1]:82")) == address

    @pytest.mark.parametrize(("written", "address"), FORMS)
    def test_addresses_in_x_real_ip_are_read(self, written: str, address: str) -> None:
        assert named(("X-Real-IP", written)) == address

    @pytest.mark.parametrize(("written", "address"), FORMS)
    def test_addresses_in_forwarded_are_read(self, written: str, address: str) -> None:
        quoted = '"' + written.strip('" ') + '"'
        for element in (
            f"for={quoted}",
            f"For={quoted};proto=https;by=10.0.0.9",
            f"by=10.0.0.9; host=example.com ;FOR={quoted}",
            f"for={quoted} , for=10.0.0.2",
            f'for=198.51.100.1, for={quoted}, for="[fd00::1]:80"',
        ):
            assert named(("Forwarded", element)) == address, element

    def test_ports_may_be_hidden_in_forwarded(self) -> None:
        assert named(("Forwarded", f'for="{CLIENT}:_x7"')) == CLIENT
        assert named(("Forwarded", f'for="[{V6_CLIENT}]:_a.b-c"')) == V6_CLIENT

    def test_forwarded_may_leave_quotes_away(self) -> None:
        """The RFC requires quotes around colons and brackets, but proxies omit them."""
        assert named(("Forwarded", f"for={CLIENT}:80;proto=http")) == CLIENT
        assert named(("Forwarded", f"for=[{V6_CLIENT}]:443")) == V6_CLIENT

    def test_ipv6_clients_are_counted_by_network_in_every_form(self) -> None:
        for written in (V6_CLIENT, f"[{V6_CLIENT}]:443", f"{V6_CLIENT}%1"):
            assert found(("X-Forwarded-For", written)).address.limit_key == "2001:db8::/64"

    def test_a_port_does_not_make_another_client(self) -> None:
        keys = {found(("X-Forwarded-For", f"{CLIENT}:{port}")).address.limit_key for port in (1, 2)}
        assert keys == {CLIENT}


class TestUnreadable:
    @pytest.mark.parametrize("written", UNREADABLE)
    def test_a_last_hop_means_the_peer_and_is_reported(self, written: str) -> None:
        for header in ("X-Forwarded-For", "X-Real-IP"):
            assert_unreadable(header, (header, written))
        assert_unreadable("X-Forwarded-For", ("X-Forwarded-For", f"{CLIENT}, {written}"))
        assert_unreadable("X-Forwarded-For", ("X-Forwarded-For", f"{written}, 10.0.0.2"))

    @pytest.mark.parametrize(
        "line",
        [
            "for=unknown",
            "for=_hidden",
            'for="_hidden:80"',
            f"for={CLIENT}, for=unknown",
            f"for={CLIENT}, proto=https",
            "proto=https",
            "nonsense",
            f'for="{CLIENT}',
            f"for={CLIENT};for={CLIENT}",
            f"for={CLIENT} for={CLIENT}",
            f"for= {CLIENT}",
            f'for="{CLIENT}"x',
            "for=",
            "=x",
        ],
    )
    def test_forwarded_without_an_address_is_the_peer(self, line: str) -> None:
        assert_unreadable("Forwarded", ("Forwarded", line))

    def test_another_header_of_the_same_proxy_may_make_up_for_it(self) -> None:
        assert named(("X-Real-IP", "unknown"), ("X-Forwarded-For", f"{CLIENT}:1")) == CLIENT
        assert named(("X-Real-IP", f"{CLIENT}:1"), ("X-Forwarded-For", "unknown")) == CLIENT

    def test_x_real_ip_twice_names_nobody(self) -> None:
        assert_unreadable("X-Real-IP", ("X-Real-IP", CLIENT), ("X-Real-IP", "198.51.100.1"))
        assert_unreadable("X-Real-IP", ("X-Real-IP", f"{CLIENT}, 198.51.100.1"))

    def test_what_says_nothing_is_not_unreadable(self) -> None:
        for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            for blank in ("", "  ", ", ,"):
                assert named((header, blank)) == PROXY
        assert named(("X-Forwarded-Proto", "https")) == PROXY

    def test_a_chain_of_trusted_proxies_names_no_client(self) -> None:
        assert named(("X-Forwarded-For", "10.0.0.2:1, 10.0.0.3")) == PROXY
        assert named(("Forwarded", "for=10.0.0.2, for=10.0.0.3")) == PROXY


class TestSeveral:
    def test_header_lines_are_one_list(self) -> None:
        assert named(("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", CLIENT)) == CLIENT
        assert (
            named(("X-Forwarded-For", f"198.51.100.1, {CLIENT}:1"), ("X-Forwarded-For", "10.0.0.2"))
            == CLIENT
        )
        assert named(("Forwarded", "for=198.51.100.1"), ("Forwarded", f"for={CLIENT}")) == CLIENT
        assert named(("Forwarded", f"for={CLIENT}"), ("Forwarded", "for=10.0.0.2")) == CLIENT

    def test_empty_elements_are_passed_over(self) -> None:
        assert named(("X-Forwarded-For", f"{CLIENT}, ,")) == CLIENT
        assert named(("Forwarded", f"for={CLIENT};, ,")) == CLIENT


class TestForgery:
    """A client may send any header; the trusted proxy appends to it, or adds its own."""

    @pytest.mark.parametrize(
        "forged",
        [
            "198.51.100.1",
            "10.0.0.9",
            "127.0.0.1",
            "unknown",
            "",
            ",,,",
            '"',
            '"[',
            "198.51.100.1;",
            "[2001:db8::bad",
            "x" * 4000,
        ],
    )
    def test_what_the_proxy_appends_wins(self, forged: str) -> None:
        for own in (CLIENT, f"{CLIENT}:43462"):
            assert named(("X-Forwarded-For", f"{forged}, {own}")) == CLIENT
            assert named(("X-Forwarded-For", forged), ("X-Forwarded-For", own)) == CLIENT

    @pytest.mark.parametrize(
        "forged",
        [
            "for=198.51.100.1",
            "for=10.0.0.9",
            "for=unknown",
            'for="198.51.100.1',
            'for="198.51.100.1, for=198.51.100.2;x="',
            'x="\\',
            "nonsense",
            'for=198.51.100.1, for="',
        ],
    )
    @pytest.mark.parametrize("own", [f"for={CLIENT}", f'for="{CLIENT}:43462";proto=http'])
    def test_what_a_client_sends_as_forwarded_never_counts(self, forged: str, own: str) -> None:
        """In a separate line it is ignored; in the same line it can at most make it invalid."""
        assert named(("Forwarded", forged), ("Forwarded", own)) == CLIENT
        where = found(("Forwarded", f"{forged}, {own}"))
        assert (where.address.text, where.unreadable) in {(CLIENT, ""), (PROXY, "Forwarded")}
        assert not over_https(PROXY, CIMultiDict({"Forwarded": f"{forged}, {own}"}), TRUSTED)

    def test_forwarded_counts_only_alone(self) -> None:
        forged = ("Forwarded", "for=198.51.100.1;proto=https")
        for own in (("X-Real-IP", CLIENT), ("X-Forwarded-For", f"{CLIENT}:1")):
            assert named(forged, own) == CLIENT
            assert not over_https(PROXY, CIMultiDict([forged, own]), TRUSTED)
        assert_unreadable("X-Forwarded-For", forged, ("X-Forwarded-For", "unknown"))
        assert_unreadable("X-Real-IP", forged, ("X-Real-IP", "unknown"))
        assert named(forged, ("X-Forwarded-For", "10.0.0.2")) == PROXY

    @pytest.mark.parametrize("peer", ["203.0.113.99", "127.0.0.1", "::1"])
    def test_nobody_else_is_believed(self, peer: str) -> None:
        for header in ("X-Forwarded-For", "X-Real-IP"):
            where = found((header, f"{CLIENT}:1"), peer=peer)
            assert (where.address.text, where.untrusted_proxy) == (peer, True)
            assert not where.unreadable
        headers = CIMultiDict({"Forwarded": f"for={CLIENT};proto=https"})
        assert client_address(peer, headers, TRUSTED).address.text == peer
        assert not over_https(peer, headers, TRUSTED)


class TestHttps:
    @pytest.mark.parametrize(
        ("headers", "https"),
        [
            ([("X-Forwarded-Proto", "https")], True),
            ([("X-Forwarded-Proto", "http")], False),
            ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")], False),
            ([("X-Forwarded-Proto", "http"), ("Forwarded", "for=1.2.3.4;proto=https")], False),
            ([("Forwarded", f"for={CLIENT};proto=https")], True),
            ([("Forwarded", f"proto=HTTPS;for={CLIENT}")], True),
            ([("Forwarded", f'for={CLIENT};proto="https"')], True),
            ([("Forwarded", "for=unknown;proto=https")], True),
            ([("Forwarded", "proto=https")], True),
            ([("Forwarded", f"for={CLIENT}")], False),
            ([("Forwarded", f"for={CLIENT};proto=http")], False),
            ([("Forwarded", f"for={CLIENT};proto=https, for=10.0.0.2;proto=http")], True),
            ([("Forwarded", f"for=1.2.3.4;proto=https, for={CLIENT};proto=http")], False),
            ([("Forwarded", "for=10.0.0.2;proto=https")], False),
            ([("Forwarded", f'for={CLIENT};proto=https;"')], False),
            ([("Forwarded", f"for={CLIENT};proto=https"), ("X-Real-IP", CLIENT)], False),
        ],
    )
    def test_the_proxy_next_to_the_client_decides(
        self,
        headers: list[tuple[str, str]],
        https: bool,  # noqa: FBT001 (a column of the table)
    ) -> None:
        assert over_https(PROXY, CIMultiDict(headers), TRUSTED) is https


@given(st.ip_addresses(), st.integers(0, 65_535), st.sampled_from(["", "%eth0", "%25eth0"]))
def test_an_address_is_found_in_each_of_its_forms(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, zone: str
) -> None:
    if address.version == 6:
        forms = [f"{address}{zone}", f"[{address}{zone}]", f"[{address}{zone}]:{port}"]
    else:
        forms = [str(address), f"{address}:{port}"]
    for form in forms:
        assert host_of(form).partition("%")[0] == str(address)
        assert host_of(f' "{form}" ').partition("%")[0] == str(address)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_breaks_the_reading_or_wins_over_the_proxy(forged: str, other: str) -> None:
    assert named(("X-Forwarded-For", f"{forged},{CLIENT}:1")) == CLIENT
    where = found(("Forwarded", f"{forged}, for={CLIENT}"))
    assert where.address.text in {CLIENT, PROXY}
    headers = CIMultiDict([("X-Real-IP", forged), ("Forwarded", other)])
    client_address(PROXY, headers, TRUSTED)
    over_https(PROXY, CIMultiDict([("Forwarded", other)]), TRUSTED)


ORDINARY_HEADERS = ("Host", "User-Agent", "Origin", "X-Real", "Forwarded-By")
PROXY_HEADERS = ("Via", "CF-Ray", "X-Forwarded-Port", "X-Client-IP", "Fly-Region")


@given(
    st.lists(st.sampled_from([*ORDINARY_HEADERS, *PROXY_HEADERS, *FORWARDING_HEADERS])), st.data()
)
def test_one_header_of_a_proxy_is_enough_in_any_spelling(
    names: list[str], data: st.DataObject
) -> None:
    headers = CIMultiDict(
        (data.draw(st.sampled_from([name, name.lower(), name.upper()])), "x") for name in names
    )
    found = client_address("127.0.0.1", headers, ())
    assert found.untrusted_proxy is any(name in headers for name in FORWARDING_HEADERS)
    shown = {*PROXY_HEADERS, *FORWARDING_HEADERS}
    assert found.direct_loopback is not any(name in headers for name in shown)
