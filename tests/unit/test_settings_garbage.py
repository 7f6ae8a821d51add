"""Settings with invalid values: every problem is a message, never another exception or a secret."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.approval import settings as approval
from services.approval.settings import read_settings as read_approval
from services.gateway import settings as gateway
from services.gateway.settings import read_settings as read_gateway
from shared.redis.access import make_client
from shared.settings.declarations import Choice, Number, Secret
from shared.settings.environment import SettingsError
from shared.settings.redis_url import redis_url_problems

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOUND = {
    "REDIS_URL": "redis://localhost/0",
    "BUS_SECRET": "b" * 32,
    "OPENCLAW_GATEWAY_TOKEN": "g" * 32,
    "APPROVAL_ADMIN_TOKEN": "a" * 32,
    "TOKEN_SECRET": "t" * 32,
    "UPSTREAM_SECRET": "u" * 32,
}
READ_ONLY_WITH = {"UPSTREAM_SECRET": {"UPSTREAM_URL": "ws://localhost:18789"}}
OF_GATEWAY = tuple(setting.name for setting in gateway.ALL)
OF_APPROVAL = tuple(setting.name for setting in approval.ALL)
GARBAGE = (
    "x",
    ",",
    "-1",
    "1e999",
    "nan",
    "9" * 5000,
    "[::1",
    "http://[::1",
    "http://host:99999",
    "//",
    "::/999",
    "\udc80",
    "a\nb",
    "/" + "long" * 200,
    "*",
    "٣",
    "redis://:6379",
)


def problems_of(read: Callable[[dict[str, str]], object], name: str, value: str) -> tuple[str, ...]:
    """Return the problems of a setting; any error but SettingsError fails the test."""
    try:
        read(SOUND | READ_ONLY_WITH.get(name, {}) | {name: value})
    except SettingsError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    ("read", "name", "value"),
    [
        *((read_gateway, *item) for item in itertools.product(OF_GATEWAY, GARBAGE)),
        *((read_approval, *item) for item in itertools.product(OF_APPROVAL, GARBAGE)),
    ],
)
def test_garbage_in_any_setting_is_accepted_or_reported_in_one_line(
    read: Callable[[dict[str, str]], object], name: str, value: str
) -> None:
    for problem in problems_of(read, name, value):
        assert name in problem
        assert "\n" not in problem
        assert problem.isprintable()
        assert len(problem) < 400


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (module.read_settings, setting.name)
        for module in (gateway, approval)
        for setting in module.ALL
        if isinstance(setting, (Number, Choice, Secret))
    ],
)
def test_a_wrong_word_in_a_setting_with_bounds_is_reported(
    read: Callable[[dict[str, str]], object], name: str
) -> None:
    assert problems_of(read, name, "x")


@given(value=st.text(max_size=80), name=st.sampled_from(OF_GATEWAY))
def test_no_text_in_a_setting_of_the_gateway_raises_anything_but_a_message(
    value: str, name: str
) -> None:
    assert all(name in problem for problem in problems_of(read_gateway, name, value))


@given(value=st.text(max_size=80), name=st.sampled_from(OF_APPROVAL))
def test_no_text_in_a_setting_of_approval_raises_anything_but_a_message(
    value: str, name: str
) -> None:
    assert all(name in problem for problem in problems_of(read_approval, name, value))


class TestRedisUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "redis://localhost",
            "redis://localhost:6379/0",
            "redis://user:p%23w%2Fd%3F@redis.internal:6379/15",
            "redis://:p@ss:word@host",
            "redis://[::1]:6379/1",
            "rediss://user:password@host.example:6380/0?ssl_cert_reqs=none",
            "rediss://host?ssl_check_hostname=false&db=2",
            "redis://host?db=3",
        ],
    )
    def test_what_is_sound_is_taken(self, url: str) -> None:
        assert redis_url_problems(url) == []
        make_client(url, max_connections=1, timeout_seconds=1.0)

    @pytest.mark.parametrize("mark", ["#", "/", "?"])
    @pytest.mark.parametrize("scheme", ["redis", "rediss"])
    def test_a_reserved_character_in_the_password_is_reported_with_its_escape(
        self, mark: str, scheme: str
    ) -> None:
        (problem,) = redis_url_problems(f"{scheme}://user:hush{mark}hush@host:6379/0")
        assert "percent-encode" in problem
        assert "hush" not in problem

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("localhost:6379", "starts with redis:// or rediss://"),
            ("http://localhost", "starts with redis:// or rediss://"),
            ("unix:///tmp/redis.sock", "Unix socket"),
            ("REDIS://", "starts with redis:// or rediss://"),
            ("redis://", "needs a host"),
            ("redis:///0", "needs a host"),
            ("redis://user:password@:6379", "needs a host"),
            ("redis://host:port/0", "port must be a number"),
            ("redis://host:0", "port must be a number"),
            ("redis://host:70000", "port must be a number"),
            ("redis://::1:6379", "brackets"),
            ("redis://[::1", "not an IPv6 address"),
            ("redis://[nonsense]/0", "not an IPv6 address"),
            ("redis://ho st/0", "percent-encode"),
            ("redis://host/zero", "database number"),
            ("redis://host/0/1", "database number"),
            ("redis://host/-1", "database number"),
            ("redis://host?db=x", "database number"),
            ("redis://host/1?db=2", "twice"),
            ("redis://host?db=1&db=1", "twice"),
            ("redis://host/0?socket_timeout=x", "`socket_timeout` cannot be set here"),
            ("redis://host/0?foo=bar", "`foo` cannot be set here"),
            ("redis://host/0?family=0", "`family` cannot be set here"),
            ("redis://host/0?foo", "`foo` cannot be set here"),
            ("redis://host/0?ssl_cert_reqs=none", "only with rediss://"),
            ("rediss://host/0?ssl_cert_reqs=maybe", "required, optional, none"),
            ("rediss://host/0?ssl_check_hostname=perhaps", "true or false"),
            ("rediss://host/0?ssl_ca_certs=/nowhere", "PEM certificates"),
            ("rediss://host/0?ssl_certfile=/nowhere", "PEM files"),
            ("rediss://host/0?ssl_keyfile=/nowhere", "requires `ssl_certfile`"),
            ("redis://host#0", "must not contain `#`"),
            ("redis://us[er:password@host", "percent-encode"),
        ],
    )
    def test_errors_are_reported(self, url: str, expected: str) -> None:
        problems = redis_url_problems(url)
        assert any(expected in problem for problem in problems), problems

    def test_a_file_without_a_certificate_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("garbage")
        (problem,) = redis_url_problems(f"rediss://host?ssl_ca_certs={tmp_path}/ca.pem")
        assert "PEM certificates" in problem

    @given(
        password=st.text("abc#/?[]@:%&=;é ", min_size=1, max_size=12).map(
            lambda part: f"HUSH{part}HUSH"
        )
    )
    def test_no_message_holds_a_part_of_the_password(self, password: str) -> None:
        for url in (f"redis://user:{password}@host:6379/0", f"rediss://:{password}@host"):
            assert "HUSH" not in "".join(redis_url_problems(url))

    @given(rest=st.text(max_size=60), scheme=st.sampled_from(["redis://", "rediss://"]))
    def test_a_client_can_be_made_of_every_accepted_url(self, rest: str, scheme: str) -> None:
        if not redis_url_problems(scheme + rest):
            make_client(scheme + rest, max_connections=1, timeout_seconds=1.0)
