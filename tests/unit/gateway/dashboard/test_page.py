"""The dashboard's page and its Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib

import pytest

from services.gateway.dashboard.page import DEPTH_LIMIT, Page, depth_of, inline_scripts
from services.gateway.dashboard.page import page_of as page_with

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
OURS = "ours();"
FIRST = "\n  document.write('<a href=\"./not-touched\">&amp;</a>');\n"


def page_of(index_html: bytes) -> Page:
    return page_with(index_html, OURS)


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
        text = directives(page_of(INDEX).policy)
        assert text["script-src"] == [
            "'self'",
            f"'sha256-{sha256(OURS)}'",
            f"'sha256-{sha256(FIRST)}'",
            f"'sha256-{sha256('second()')}'",
        ]

    def test_a_browser_counts_lines_as_lf(self) -> None:
        assert page_of(INDEX.replace(b"\n", b"\r\n")).policy == page_of(INDEX).policy

    def test_nothing_comes_from_elsewhere_and_nobody_frames_it(self) -> None:
        policy = page_of(INDEX).policy
        text = directives(policy)
        assert text["default-src"] == ["'self'"]
        assert text["connect-src"] == ["'self'", "data:"]
        for name in ("frame-ancestors", "base-uri", "object-src"):
            assert text[name] == ["'none'"]
        assert "http" not in policy
        assert "unsafe-eval" not in policy
        assert [name for name, values in text.items() if "'unsafe-inline'" in values] == [
            "style-src"
        ]


class TestBody:
    def test_our_script_comes_before_all_others_and_nothing_else_changes(self) -> None:
        body = page_of(INDEX).body(2).decode()
        ours = f'<script data-depth="2">{OURS}</script>'
        assert body.index(ours) < body.index("<link") < body.index("<script data-x")
        assert body.replace(ours, "") == INDEX.decode()

    def test_what_it_loads_stays_relative(self) -> None:
        body = page_of(INDEX).body(0).decode()
        assert 'href="./assets/a.css"' in body
        assert 'src="./assets/a.js"' in body

    def test_the_policy_is_the_same_at_every_depth(self) -> None:
        page = page_of(INDEX)
        assert inline_scripts(page.body(0).decode()) == inline_scripts(page.body(9).decode())

    def test_a_page_without_a_head_is_served_as_it_is(self) -> None:
        assert page_of(b"<html>plain</html>").body(1) == b"<html>plain</html>"

    def test_a_header_is_no_head(self) -> None:
        assert page_of(b"<header>x</header>").body(1) == b"<header>x</header>"

    @pytest.mark.parametrize(
        ("path", "depth"),
        [("/", 0), ("/chat", 1), ("/chat/", 2), ("/a/b", 2), ("/a" * 99, DEPTH_LIMIT)],
    )
    def test_the_depth_is_how_many_slashes_a_path_has(self, path: str, depth: int) -> None:
        assert depth_of(path) == depth
