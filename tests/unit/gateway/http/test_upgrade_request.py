"""Which upgrade requests are accepted, and the answer of RFC 6455's own example."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from multidict import CIMultiDict

from services.gateway.http.upgrade_request import (
    UpgradeProblem,
    switching_protocols,
    upgrade_problem,
    wants_upgrade,
)

SOUND = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


class Request(NamedTuple):
    headers: CIMultiDict[str]
    method: str = "GET"
    version: tuple[int, int] = (1, 1)


def problem_of(
    *more: tuple[str, str], changed: dict[str, str] | None = None
) -> UpgradeProblem | None:
    return upgrade_problem(Request(CIMultiDict([*(SOUND | (changed or {})).items(), *more])))


def test_a_sound_one_is_answered_as_in_the_rfc() -> None:
    assert problem_of() is None
    head, *lines = switching_protocols(CIMultiDict(SOUND)).split(b"\r\n")
    assert head == b"HTTP/1.1 101 Switching Protocols"
    assert set(lines) == {
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"",
    }


@pytest.mark.parametrize("named", ["websocket", "WebSocket", " websocket "])
def test_one_is_known_by_its_header(named: str) -> None:
    assert wants_upgrade(CIMultiDict({"Upgrade": named}))


@pytest.mark.parametrize(
    "headers",
    [{}, {"Upgrade": "h2c"}, {"Connection": "Upgrade"}, {"Upgrade": "webSoc\u212aet"}],
)
def test_other_requests_are_no_upgrade(headers: dict[str, str]) -> None:
    assert not wants_upgrade(CIMultiDict(headers))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"Connection": "close"}, "Connection: Upgrade"),
        ({"Connection": "not-upgrade"}, "Connection: Upgrade"),
        ({"Connection": "upgraded"}, "Connection: Upgrade"),
        ({"Sec-WebSocket-Version": "8"}, "version 13"),
        ({"Sec-WebSocket-Key": ""}, "16 bytes"),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, "16 bytes"),
        ({"Sec-WebSocket-Key": "*" * 24}, "16 bytes"),
        ({"Sec-WebSocket-Key": "\u00e4" * 24}, "16 bytes"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, str], named: str) -> None:
    problem = problem_of(changed=changed)
    assert problem is not None
    assert named in problem.text


def test_another_method_or_version_of_http_is_refused() -> None:
    headers = CIMultiDict(SOUND)
    for request, named in (
        (Request(headers, method="POST"), "GET"),
        (Request(headers, version=(1, 0)), "HTTP/1.1"),
    ):
        problem = upgrade_problem(request)
        assert problem is not None
        assert named in problem.text
        assert problem.status == 400


@pytest.mark.parametrize("header", ["Sec-WebSocket-Key", "Sec-WebSocket-Version"])
def test_what_may_be_there_once_is_not_taken_twice(header: str) -> None:
    problem = problem_of((header, SOUND[header]))
    assert problem is not None
    assert header in problem.text


def test_another_version_is_answered_with_the_supported_one() -> None:
    problem = problem_of(changed={"Sec-WebSocket-Version": "8"})
    assert problem is not None
    assert problem.status == 426
    assert dict(problem.headers)["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize("value", ["Upgrade", "upgrade", "keep-alive,UPGRADE", "x, upgrade , y"])
def test_the_option_may_be_one_of_several(value: str) -> None:
    assert problem_of(changed={"Connection": value}) is None
    assert problem_of(("Connection", value), changed={"Connection": "keep-alive"}) is None


@pytest.mark.parametrize("header", SOUND)
def test_an_upgrade_needs_all_its_headers(header: str) -> None:
    headers = CIMultiDict((name, value) for name, value in SOUND.items() if name != header)
    assert not wants_upgrade(headers) or upgrade_problem(Request(headers))
