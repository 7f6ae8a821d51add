"""The gateway's own page."""

from __future__ import annotations

import base64
import hashlib
import re

from services.gateway.http.about_page import POLICY, about_html, about_text

ADDRESS = "wss://gateway.example"
APPROVAL = "https://approve.example/?a=1&b=<2>"


def test_both_say_where_to_connect_and_to_approve_and_how_the_dashboard_comes() -> None:
    for text in (about_text(ADDRESS, APPROVAL), about_html(ADDRESS, APPROVAL)):
        assert ADDRESS in text
        assert "approve.example" in text
        assert "CONTROL_UI_DIR" in text
        assert "/dist/control-ui" in text


def test_devices_get_a_sockets_address() -> None:
    for text in (about_text("https://gw.example", ""), about_html("https://gw.example", "")):
        assert "wss://gw.example" in text


def test_both_say_what_is_not_known() -> None:
    for text in (about_text("", ""), about_html("", "")):
        assert "ws:// or wss://" in text
        assert "APPROVAL_PUBLIC_URL is not set" in text
        assert "href" not in text


def test_what_comes_from_settings_is_text() -> None:
    text = about_html("<b>", APPROVAL)
    assert "&lt;b&gt;" in text
    assert 'href="https://approve.example/?a=1&amp;b=&lt;2&gt;/setup"' in text


def test_the_policy_allows_its_style_and_nothing_else() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", about_html("", ""), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert POLICY.startswith("default-src 'none'")
    assert "<script" not in about_html("", "")
