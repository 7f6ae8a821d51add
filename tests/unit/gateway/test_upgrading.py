"""The upgrade: which requests can be met, and the answer of RFC 6455's own example."""

from __future__ import annotations

import pytest

from services.gateway.upgrading import switching_protocols, upgrade_problem, wants_upgrade

SOUND = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def test_a_sound_one_is_answered_as_in_the_rfc() -> None:
    assert upgrade_problem("GET", SOUND) is None
    head, *lines = switching_protocols(SOUND).split(b"\r\n")
    assert head == b"HTTP/1.1 101 Switching Protocols"
    assert set(lines) == {
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"",
    }


@pytest.mark.parametrize("named", ["websocket", "WebSocket", " websocket "])
def test_one_is_known_by_its_header(named: str) -> None:
    assert wants_upgrade({"Upgrade": named})


@pytest.mark.parametrize("headers", [{}, {"Upgrade": "h2c"}, {"Connection": "Upgrade"}])
def test_others_are_none(headers: dict[str, str]) -> None:
    assert not wants_upgrade(headers)


@pytest.mark.parametrize(
    ("method", "changed", "named"),
    [
        ("POST", {}, "GET"),
        ("GET", {"Connection": "close"}, "Connection: Upgrade"),
        ("GET", {"Sec-WebSocket-Version": "8"}, "version 13"),
        ("GET", {"Sec-WebSocket-Key": ""}, "16 bytes"),
        ("GET", {"Sec-WebSocket-Key": "c2hvcnQ="}, "16 bytes"),
        ("GET", {"Sec-WebSocket-Key": "*" * 24}, "16 bytes"),
        ("GET", {"Sec-WebSocket-Key": "\u00e4" * 24}, "16 bytes"),
    ],
)
def test_what_is_wrong_is_named(method: str, changed: dict[str, str], named: str) -> None:
    assert named in (upgrade_problem(method, SOUND | changed) or "")


@pytest.mark.parametrize("header", SOUND)
def test_nothing_may_be_missing(header: str) -> None:
    headers = {name: value for name, value in SOUND.items() if name != header}
    assert not wants_upgrade(headers) or upgrade_problem("GET", headers)
