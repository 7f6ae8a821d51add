"""The operators' page: what is served, and what a browser may do with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import pytest
from yarl import URL

from services.approval.api.static import PAGE, page_files
from tests.integration.approval.operator import HARDENING

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from tests.integration.approval.operator import Operator

FILES: Final = {file.path: file for file in page_files()}
SCRIPTS: Final = {path: file.body.decode() for path, file in FILES.items() if path.endswith(".js")}
HTML: Final = FILES[PAGE].body.decode()
MAKES_HTML: Final = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(|srcdoc|"
    r"createContextualFragment|setTimeout\([\"'`]"
)


async def fetch(
    operator: Operator, path: str, method: str = "GET", **headers: str
) -> tuple[int, CIMultiDictProxy[str], bytes]:
    """Return status, headers and body; the path is sent verbatim."""
    url = URL(str(operator.url).rstrip("/") + path, encoded=True)
    async with operator._client.session.request(
        method, url, headers=headers, allow_redirects=False
    ) as response:
        return response.status, response.headers, await response.read()


@pytest.mark.parametrize("path", FILES)
class TestFile:
    async def test_files_are_served_to_everybody_unchanged(
        self, operator: Operator, path: str
    ) -> None:
        status, headers, body = await fetch(operator, path)
        assert (status, body) == (200, FILES[path].body)
        assert headers["Content-Type"].startswith(FILES[path].content_type)
        stored = "no-store" if path == PAGE else "no-cache"
        for name, value in {**HARDENING, "Cache-Control": stored}.items():
            assert headers[name] == value

    async def test_nobody_frames_it_and_nothing_of_others_runs(
        self, operator: Operator, path: str
    ) -> None:
        _, headers, _ = await fetch(operator, path)
        policy = dict(
            part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"

    async def test_files_are_revalidated_and_sent_once(self, operator: Operator, path: str) -> None:
        _, headers, _ = await fetch(operator, path)
        for known in (headers["ETag"], f'"other", W/{headers["ETag"]}'):
            status, again, body = await fetch(operator, path, **{"If-None-Match": known})
            assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
        status, _, body = await fetch(operator, path, **{"If-None-Match": '"other"'})
        assert (status, body) == (200, FILES[path].body)

    async def test_files_of_the_page_can_only_be_read(self, operator: Operator, path: str) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            override = {"X-HTTP-Method-Override": "GET"}
            assert (await fetch(operator, path, method, **override))[0] == 405
        status, headers, body = await fetch(operator, path, "HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) == len(FILES[path].body)


class TestDescription:
    async def test_the_description_is_revalidated_and_sent_once(self, operator: Operator) -> None:
        bodies = set()
        for coding in ("identity", "gzip", "br, gzip;q=0.5"):
            sent = {"Accept-Encoding": coding}
            status, headers, body = await fetch(operator, "/openapi.json", **sent)
            assert (status, headers["Vary"]) == (200, "Accept-Encoding")
            assert headers.get("Content-Encoding") == (None if coding == "identity" else "gzip")
            bodies.add(body)
            known = {**sent, "If-None-Match": headers["ETag"]}
            status, again, body = await fetch(operator, "/openapi.json", **known)
            assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
        assert len(bodies) == 1

    async def test_the_description_is_compressed_only_if_accepted(self, operator: Operator) -> None:
        for coding in ("", "br", "gzip;q=0", "gzip; q=0.0", "*"):
            _, headers, _ = await fetch(operator, "/openapi.json", **{"Accept-Encoding": coding})
            assert "Content-Encoding" not in headers, coding


@pytest.mark.parametrize(
    "path",
    [
        *("//setup", "/setup/", "/setup//main.js", "/./setup", "/livez/../setup", "/%2e/setup"),
        *("/setup/../setup", "/setup%2fmain.js", "/setup/%2e%2e/setup", "/SETUP", "/setup%00"),
        *("/setup/index.html", "/setup/__init__.py", "/setup/../api.py", "/setup/..%2fapi.py"),
        *("/setup/main.js/", "/setup/main.js%20", "/setup/%2fetc/passwd", "/setup;a=b"),
    ],
)
async def test_no_other_path_is_served(operator: Operator, path: str) -> None:
    status, _, body = await fetch(operator, path)
    assert status in {400, 404}
    assert b"<html" not in body


class TestDeviceTextIsNeverMarkup:
    """Text from devices is always inserted as text."""

    @pytest.mark.parametrize("path", SCRIPTS)
    def test_no_script_makes_html_of_text(self, path: str) -> None:
        assert not MAKES_HTML.search(SCRIPTS[path])

    def test_the_page_contains_nothing_that_the_policy_forbids(self) -> None:
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", HTML)
        assert re.findall(r"<script[^>]*>(.*?)</script>", HTML, re.DOTALL) == [""]

    def test_everything_it_loads_is_ours_and_there(self) -> None:
        loaded = {urljoin(PAGE, to) for to in re.findall(r'(?:src|href)="([^#"]*)"', HTML)}
        for path, text in SCRIPTS.items():
            loaded |= {urljoin(path, to) for to in re.findall(r'from "([^"]*)"', text)}
        assert loaded == set(FILES) - {PAGE}

    def test_no_address_begins_at_the_root_which_may_be_somebody_elses(self) -> None:
        assert not re.search(r'(?:src|href|action)="/', HTML)
        for text in SCRIPTS.values():
            assert not re.search(r'(?:from|import|fetch)\s*\(?\s*["`]/', text)


def test_it_says_something_without_javascript() -> None:
    (body,) = re.findall(r"<noscript>(.*?)</noscript>", HTML, re.DOTALL)
    assert "JavaScript" in body
    assert "/v1/requests" in body


async def test_it_is_found_from_the_front(operator: Operator) -> None:
    assert "/setup" in (await operator.get("/")).text
