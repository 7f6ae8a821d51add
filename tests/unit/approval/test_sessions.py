"""What makes a session cookie valid, and which cross-site calls are refused."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from services.approval.access.csrf import PAGE_HEADER, check
from services.approval.access.sessions import LIFE_MS, Session, read, sign

TOKEN = "an-admin-token-of-these-tests-0123456789"
OTHER = "another-admin-token-of-these-tests-01234"
NOW_MS = 1_700_000_000_000
SESSION = Session("0123456789abcdef" * 2, NOW_MS + LIFE_MS)
COOKIE = sign(SESSION, TOKEN)
HOST = "approve.example"
PUBLIC = "https://public.example"


class TestCookie:
    def test_a_cookie_is_read_only_with_the_token_that_signed_it(self) -> None:
        assert read(COOKIE, [TOKEN], NOW_MS) == SESSION
        assert read(COOKIE, [OTHER, TOKEN], NOW_MS) == SESSION
        assert read(COOKIE, [OTHER], NOW_MS) is None

    def test_a_cookie_ends_to_the_millisecond(self) -> None:
        assert read(COOKIE, [TOKEN], SESSION.expires_at_ms - 1) == SESSION
        assert read(COOKIE, [TOKEN], SESSION.expires_at_ms) is None

    def test_a_cookie_contains_no_token(self) -> None:
        assert TOKEN not in COOKIE

    @pytest.mark.parametrize("place", range(len(COOKIE)))
    def test_no_character_can_be_changed(self, place: int) -> None:
        other = "1" if COOKIE[place] != "1" else "2"
        assert read(COOKIE[:place] + other + COOKIE[place + 1 :], [TOKEN], NOW_MS) is None

    @pytest.mark.parametrize(
        "cookie",
        [
            "",
            ".",
            "..",
            "x",
            COOKIE + "\n",
            COOKIE + "0",
            f"0{COOKIE}",
            f" {COOKIE}",
            COOKIE.upper(),
            TOKEN,
        ],
    )
    def test_any_other_text_is_no_cookie(self, cookie: str) -> None:
        assert read(cookie, [TOKEN], NOW_MS) is None


def why(method: str = "POST", *, https: bool = False, public: str = PUBLIC, **headers: str) -> str:
    """Check a call to HOST, by default with our header; `_` stands for `-`."""
    sent = CIMultiDict({"Host": HOST, PAGE_HEADER: "1"})
    sent.update({name.replace("_", "-"): value for name, value in headers.items()})
    return check(method, sent, public, https=https)


class TestCrossSiteRequests:
    @pytest.mark.parametrize("origin", [f"https://{HOST}", f"http://{HOST}", PUBLIC])
    def test_our_own_page_is_no_cross_site_request(self, origin: str) -> None:
        for method in ("POST", "PATCH", "DELETE"):
            assert why(method, Origin=origin) == ""

    @pytest.mark.parametrize(
        "origin",
        [
            *("null", "", "https://evil.example", f"https://{HOST}.evil.example", f"{HOST}"),
            *(f"https://evil-{HOST}", f"https://{HOST}:8443", f"https://{HOST}/", "*"),
            *(f"https://user@{HOST}", f"ws://{HOST}", f"https://{HOST}, https://evil.example"),
        ],
    )
    def test_another_origin_is_refused(self, origin: str) -> None:
        for method in ("GET", "POST"):
            assert "Origin" in why(method, Origin=origin)

    def test_http_is_another_origin_once_https_is_known(self) -> None:
        assert why(Origin=f"https://{HOST}", https=True) == ""
        assert why(Origin=f"http://{HOST}", https=True)

    @pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT", "OPTIONS"])
    def test_a_change_wants_an_origin_and_the_header(self, method: str) -> None:
        assert "Origin" in why(method)
        without = CIMultiDict({"Host": HOST, "Origin": f"https://{HOST}"})
        assert PAGE_HEADER in check(method, without, PUBLIC, https=False)

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "", "x"])
    def test_what_the_browser_says_of_another_site(self, site: str) -> None:
        for method in ("GET", "POST"):
            assert why(method, Origin=f"https://{HOST}", Sec_Fetch_Site=site)

    def test_reading_wants_no_more_than_the_cookie(self) -> None:
        plain = CIMultiDict({"Host": HOST})
        for method in ("GET", "HEAD"):
            assert check(method, plain, "", https=False) == ""

    def test_a_request_without_a_host_is_refused(self) -> None:
        for origin in ("null", "http://", "https://"):
            assert check("POST", {"Origin": origin, PAGE_HEADER: "1"}, "", https=False)
