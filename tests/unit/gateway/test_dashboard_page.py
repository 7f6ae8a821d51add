"""The dashboard's page and its Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib

import pytest

from services.gateway.dashboard_page import inline_scripts, page_of

INDEX = b"""<!doctype html>
<html lang="en"><head>
<link rel="icon" href="./favicon.svg" />
<link rel="stylesheet" crossorigin href="./assets/a.css">
<script data-x="1">
  document.write('<a href="./not-touched">&amp;</a>');
</script>
<SCRIPT type="module" crossorigin src="./assets/a.js"></SCRIPT>
</head><body><a href="./chat">chat</a><script>second()</script></body></html>
"""
FIRST = "\n  document.write('<a href=\"./not-touched\">&amp;</a>');\n"


def sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def directives(policy: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in policy.split(";"))}


class TestScripts:
    def test_those_in_the_page_are_found_as_they_stand(self) -> None:
        assert inline_scripts(INDEX.decode()) == [FIRST, "second()"]

    def test_a_page_without_any_has_none(self) -> None:
        assert inline_scripts("<html><script src=x></script></html>") == []


class TestPolicy:
    def test_scripts_are_the_pages_own_and_nothing_else(self) -> None:
        said = directives(page_of(INDEX).policy)
        assert said["script-src"] == [
            "'self'",
            f"'sha256-{sha256(FIRST)}'",
            f"'sha256-{sha256('second()')}'",
        ]

    def test_a_browser_counts_lines_as_lf(self) -> None:
        assert page_of(INDEX.replace(b"\n", b"\r\n")).policy == page_of(INDEX).policy

    def test_nothing_comes_from_elsewhere_and_nobody_frames_it(self) -> None:
        policy = page_of(INDEX).policy
        said = directives(policy)
        assert said["default-src"] == ["'self'"]
        assert said["connect-src"] == ["'self'", "data:"]
        for name in ("frame-ancestors", "base-uri", "object-src"):
            assert said[name] == ["'none'"]
        assert "http" not in policy
        assert "unsafe-eval" not in policy
        assert [name for name, values in said.items() if "'unsafe-inline'" in values] == [
            "style-src"
        ]


class TestBody:
    @pytest.mark.parametrize(
        "tag",
        [
            '<link rel="icon" href="/favicon.svg" />',
            '<link rel="stylesheet" crossorigin href="/assets/a.css">',
            'src="/assets/a.js"',
        ],
    )
    def test_what_it_loads_is_at_the_root_from_every_path(self, tag: str) -> None:
        assert tag in page_of(INDEX).body.decode()

    def test_all_else_stays(self) -> None:
        body = page_of(INDEX).body.decode()
        assert FIRST in body
        assert '<a href="./chat">' in body
        assert len(body) == len(INDEX) - 3
