"""Origins as browsers and apps write them, and which entries of the setting are valid."""

from __future__ import annotations

import pytest

from services.gateway.handshake.origin import (
    ANY,
    MISSING_OR_INVALID,
    NOT_ALLOWED,
    allowed_origins,
    canonical_origin,
    origin_problem,
)
from services.gateway.settings import read_settings
from shared.settings.environment import SettingsError

EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
CUSTOM = [
    "tauri://localhost",
    "app://-",
    "app://openclaw",
    "capacitor://localhost",
    "ionic://localhost",
    EXTENSION,
    "moz-extension://0f8fad5b-d9cb-469f-a165-70867728950e",
    "safari-web-extension://0f8fad5b-d9cb-469f-a165-70867728950e",
    "vscode-webview://1q2w3e",
    "app://localhost:3000",
]
NO_ORIGINS = [
    "",
    "null",
    "file://",
    "file:///index.html",
    "file://host",
    "ok.example",
    "https://",
    "https:///path",
    "https://ok.example/path",
    "https://ok.example?x",
    "https://ok.example#x",
    "https://user@ok.example",
    "tauri://user:secret@localhost",
    "tauri:localhost",
    "data:text/html,x",
    "blob:https://ok.example/1",
    "https://ok.example:65536",
    "https://ok.example:",
    "https://ok .example",
    "https://*.example.com",
    "https://[::1",
    "https://[::g]",
    "https://1.2.3.4.5",
    "https://a\\b",
    "-app://x",
    "https://ok.example\r\nx: y",
    "wss://ok.example",
]


def problem_of(origin: str | None, *allowed: str, local: bool = False) -> str | None:
    return origin_problem(origin, "gateway.example", set(allowed), direct_loopback=local)


class TestCustomSchemes:
    @pytest.mark.parametrize("origin", CUSTOM)
    def test_custom_schemes_are_allowed_only_by_their_own_entry(self, origin: str) -> None:
        assert allowed_origins(origin) == (frozenset({origin}), [])
        assert problem_of(origin, origin) is None
        assert problem_of(origin.upper(), origin) is None
        assert problem_of(origin, "https://ok.example") == NOT_ALLOWED
        assert problem_of(origin + "x", origin) in {NOT_ALLOWED, MISSING_OR_INVALID}

    @pytest.mark.parametrize("origin", CUSTOM)
    def test_custom_schemes_are_allowed_if_all_are(self, origin: str) -> None:
        assert problem_of(origin, ANY) is None

    def test_the_host_does_not_stand_for_another_scheme(self) -> None:
        assert problem_of("tauri://ok.example", "https://ok.example") == NOT_ALLOWED
        assert problem_of("https://ok.example", "tauri://ok.example") == NOT_ALLOWED

    def test_an_app_on_this_machine_is_local(self) -> None:
        assert problem_of("tauri://localhost", local=True) is None
        assert problem_of("tauri://localhost", local=False) == NOT_ALLOWED
        assert problem_of(EXTENSION, local=True) == NOT_ALLOWED


class TestInvalidOrigins:
    @pytest.mark.parametrize("origin", NO_ORIGINS)
    def test_an_invalid_origin_is_refused_even_if_all_are_allowed(self, origin: str) -> None:
        assert canonical_origin(origin) is None
        assert problem_of(origin, ANY, local=True) == MISSING_OR_INVALID

    def test_a_missing_origin_is_refused(self) -> None:
        assert problem_of(None, ANY) == MISSING_OR_INVALID


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("HTTPS://OK.example", "https://ok.example"),
        ("https://ok.example:443/", "https://ok.example"),
        ("http://ok.example:80", "http://ok.example"),
        ("http://ok.example:443", "http://ok.example:443"),
        ("https://ok.example:08443", "https://ok.example:8443"),
        ("http://[0:0:0:0:0:0:0:1]:18789", "http://[::1]:18789"),
        ("http://127.0.0.1:18789", "http://127.0.0.1:18789"),
        ("tauri://localhost:443", "tauri://localhost:443"),
    ],
)
def test_each_origin_has_one_form(written: str, canonical: str) -> None:
    assert canonical_origin(written) == canonical
    assert canonical_origin(canonical) == canonical


class TestTheSetting:
    def test_holds_several_and_ignores_case_and_blanks(self) -> None:
        found, problems = allowed_origins(" https://A.example , tauri://localhost,, * ")
        assert found == {"https://a.example", "tauri://localhost", ANY}
        assert problems == []

    @pytest.mark.parametrize(
        ("entry", "named"),
        [
            ("https://*.example.com", "patterns"),
            ("*.example.com", "patterns"),
            ("chrome-extension://*", "patterns"),
            ("https://ok.example:*", "patterns"),
            ("null", "origin of their own"),
            ("file:///index.html", "origin of their own"),
            ("wss://ok.example", "such as https://ok.example"),
            ("ws://ok.example:81", "such as http://ok.example:81"),
            ("https://ok.example/", "https://ok.example"),
            ("https://ok.example:443", "https://ok.example"),
            ("https://ok.example/path", "such as https://ok.example"),
            ("https://user@ok.example", "such as https://ok.example"),
            ("https://bücher.example", "xn--"),
            ("ok.example", "scheme://host[:port]"),
            ("http://[::1", "scheme://host[:port]"),
            ("http://[0::1]", "http://[::1]"),
            ("http://127.1", "scheme://host[:port]"),
            ("https://a.example;https://b.example", "scheme://host[:port]"),
            ("https://ok.example:99999", "scheme://host[:port]"),
            ("tauri:localhost", "scheme://host[:port]"),
        ],
    )
    def test_an_entry_that_can_never_match_stops_the_start_and_says_what_would(
        self, entry: str, named: str
    ) -> None:
        with pytest.raises(SettingsError) as raised:
            read_settings({"GATEWAY_ALLOWED_ORIGINS": f"https://fine.example,{entry}"})
        (line,) = [
            problem for problem in raised.value.problems if "GATEWAY_ALLOWED_ORIGINS" in problem
        ]
        assert entry in line
        assert named in line
