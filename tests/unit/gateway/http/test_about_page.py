"""The gateway's own page."""

from __future__ import annotations

import base64
import hashlib
import re

from services.gateway.http.about_page import POLICY, about_html, about_text

ADDRESS = "wss://gateway.example"
APPROVAL = "https://approve.example/?a=1&b=<2>"


def test_both_say_where_to_connect_and_to_approve_and_how_the_dashboard_comes() -> None:
    for said in (about_text(ADDRESS, APPROVAL), about_html(ADDRESS, APPROVAL)):
        assert ADDRESS in said
        assert "approve.example" in said
        assert "CONTROL_UI_DIR" in said
        assert "/dist/control-ui" in said


def test_devices_get_a_sockets_address() -> None:
    for said in (about_text("https://gw.example", ""), about_html("https://gw.example", "")):
        assert "wss://gw.example" in said


def test_both_say_what_is_not_known() -> None:
    for said in (about_text("", ""), about_html("", "")):
        assert "ws:// or wss://" in said
        assert "APPROVAL_PUBLIC_URL is not set" in said
        assert "href" not in said


def test_what_comes_from_settings_is_text() -> None:
    said = about_html("<b>", APPROVAL)
    assert "&lt;b&gt;" in said
    assert 'href="https://approve.example/?a=1&amp;b=&lt;2&gt;/setup"' in said


def test_the_policy_lets_in_its_style_and_nothing_else() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", about_html("", ""), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert POLICY.startswith("default-src 'none'")
    assert "<script" not in about_html("", "")
