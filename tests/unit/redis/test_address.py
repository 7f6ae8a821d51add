"""URLs of one server and of sentinels: what is accepted, what is reported, what is made of them."""

from __future__ import annotations

import pytest
from redis.asyncio import SSLConnection

from shared.redis.address import Place, parse_address
from shared.settings.redis_url import SENTINELS_LIMIT, redis_url_problems

TOO_MANY = ",".join(f"s{number}" for number in range(SENTINELS_LIMIT + 1))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+sentinel://s", "needs the name of the service"),
        ("redis+sentinel://s/0", "needs the name of the service"),
        ("redis+sentinel://s/a b", "space"),
        ("redis+sentinel://s/a%20b", "only letters, digits"),
        ("redis+sentinel://s/main/x", "end with a database number"),
        ("redis+sentinel://s/main/0/1", "end with a database number"),
        ("redis+sentinel://s,/main", "none in its list may be empty"),
        ("redis+sentinel://s,s/main", "names a sentinel twice"),
        ("redis+sentinel://s:1,s:x/main", "port must be a number"),
        ("redis+sentinel://[::1,s/main", "not an IPv6 address"),
        ("redis+sentinel://::1/main", "brackets"),
        (f"redis+sentinel://{TOO_MANY}/main", f"at most {SENTINELS_LIMIT}"),
        ("redis+sentinel://s/main?sentinel_username=u", "requires `sentinel_password`"),
        ("redis+sentinel://s/main?sentinel_password=", "must be a value"),
        ("redis+sentinel://s/main?sentinel_tls=maybe", "true or false"),
        ("redis+sentinel://s/main?ssl_cert_reqs=none", "only with rediss://"),
        ("redis+sentinel://s/main/1?db=2", "twice"),
        ("redis+sentinel://s/main?timeout=1", "`timeout` cannot be set here"),
        ("redis://s1,s2/0", "for Sentinel, it must start with redis+sentinel://"),
        ("redis://s/main", "requires redis+sentinel://"),
        ("redis://s/0?sentinel_password=x", "`sentinel_password` cannot be set here"),
        ("redis://s/0?protocol=4", "`protocol` must be 2 or 3"),
    ],
)
def test_errors_are_reported(url: str, expected: str) -> None:
    problems = redis_url_problems(url)
    assert any(expected in problem for problem in problems), problems


def test_all_problems_are_reported_together() -> None:
    problems = redis_url_problems("redis+sentinel://s,,t:x/0?foo=1")
    assert len(problems) == 4, problems


@pytest.mark.parametrize("where", ["u:hush#hush@s/main", "s/main?sentinel_password=hush#"])
def test_no_message_holds_a_password(where: str) -> None:
    problems = redis_url_problems(f"redis+sentinel://{where}")
    assert problems
    assert "hush" not in "".join(problems)


def test_servers_and_sentinels_have_their_own_logins() -> None:
    url = "redis+sentinel://user:p%40ss@a:1,[::1],b/main/3?sentinel_username=s&sentinel_password=q"
    assert redis_url_problems(url) == []
    address = parse_address(url)
    assert address.sentinels == (Place("a", 1), Place("::1", 26379), Place("b", 26379))
    assert address.service == "main"
    assert address.server == {"username": "user", "password": "p@ss", "db": 3, "protocol": 2}
    assert address.sentinel == {"username": "s", "password": "q", "protocol": 2}
    assert "p@ss" not in repr(address)
    assert "main" in repr(address)


@pytest.mark.parametrize(
    ("scheme", "option", "server", "sentinel"),
    [
        ("redis", "", False, False),
        ("rediss", "", True, True),
        ("rediss", "?sentinel_tls=no", True, False),
        ("redis", "?sentinel_tls=yes&ssl_cert_reqs=none", False, True),
    ],
)
def test_tls_is_for_servers_and_sentinels_unless_an_option_says_otherwise(
    scheme: str, option: str, *, server: bool, sentinel: bool
) -> None:
    url = f"{scheme}+sentinel://s/main{option}"
    assert redis_url_problems(url) == []
    address = parse_address(url)
    assert (address.server.get("connection_class") is SSLConnection) is server
    assert (address.sentinel.get("connection_class") is SSLConnection) is sentinel
    assert any(name.startswith("ssl_") for name in address.server) is False


def test_one_server_keeps_host_and_port() -> None:
    address = parse_address("redis://user:password@host:7000/2?protocol=3")
    assert (address.server["host"], address.server["port"]) == ("host", 7000)
    assert (address.server["db"], address.server["protocol"]) == (2, 3)
    assert address.sentinels == ()
