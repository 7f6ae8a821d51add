"""Which pages may connect, over the wire."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3, CONTROL_UI, CONTROL_UI_3
from tests.integration.gateway.harness import TOKEN, GatewayHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.device.profile import Profile

ALLOWED = "https://ok.example"
MESSAGE = (
    "origin not allowed (open the Control UI from the gateway host or allow it in "
    "GATEWAY_ALLOWED_ORIGINS)"
)
APPS = ["tauri://apphost", "app://-", "chrome-extension://abcdefghijklmnopabcdefghijklmnop"]
NOT_ALLOWED = "origin not allowed"
MISSING = "origin missing or invalid"


@pytest.fixture
async def harness() -> AsyncIterator[GatewayHarness]:
    async with GatewayHarness(allowed_origins=frozenset({ALLOWED})) as harness:
        yield harness


async def answer_to(
    harness: GatewayHarness, profile: Profile, *headers: tuple[str, str], token: str = TOKEN
) -> Any:
    """Connect with these headers; a refusal must be followed by its close."""
    async with await harness.raw(headers=headers) as raw:
        assert raw.status == 101
        answer = await raw.connect(DeviceKey.generate(), profile, Credentials(token=token))
        if not answer["ok"]:
            assert await raw.closed() == (1008, answer["error"]["message"])
        return answer


def reason(answer: Any) -> str:
    """Check the whole error, and return why the origin was refused."""
    error = answer["error"]
    assert (error["code"], error["message"]) == ("INVALID_REQUEST", MESSAGE)
    assert error["details"].pop("connectionId")
    assert error["details"].pop("code") == "CONTROL_UI_ORIGIN_NOT_ALLOWED"
    (name,) = error["details"]
    assert name == "reason"
    return str(error["details"]["reason"])


class TestPagesOfOtherOrigins:
    @pytest.mark.parametrize("profile", [CONTROL_UI, CONTROL_UI_3, CLI])
    @pytest.mark.parametrize(
        ("origin", "why"),
        [
            ("https://evil.example", NOT_ALLOWED),
            ("https://ok.example.evil", NOT_ALLOWED),
            ("https://okexample", NOT_ALLOWED),
            ("https://sub.ok.example", NOT_ALLOWED),
            ("https://ok.example:8443", NOT_ALLOWED),
            ("http://ok.example", NOT_ALLOWED),
            ("https://ok.example@evil.example", MISSING),
            ("https://evil.example/https://ok.example", MISSING),
            ("null", MISSING),
            ("file://", MISSING),
            ("", MISSING),
            ("ok.example", MISSING),
        ],
    )
    async def test_a_page_from_elsewhere_is_refused_and_nothing_is_asked(
        self, harness: GatewayHarness, profile: Profile, origin: str, why: str
    ) -> None:
        answer = await answer_to(harness, profile, ("Origin", origin))
        assert reason(answer) == why
        assert harness.approvals.asked == []
        counted = harness.metrics.registry.get_sample_value(
            "latchkey_gateway_handshakes_total", {"outcome": "origin"}
        )
        assert counted == 1

    async def test_a_request_with_two_origins_is_refused(self, harness: GatewayHarness) -> None:
        answer = await answer_to(
            harness, CONTROL_UI, ("Origin", "https://evil.example"), ("Origin", ALLOWED)
        )
        assert reason(answer) == NOT_ALLOWED

    async def test_a_program_without_an_origin_is_admitted_by_its_proof(
        self, harness: GatewayHarness
    ) -> None:
        assert (await answer_to(harness, CLI))["ok"]
        assert len(harness.approvals.asked) == 1

    @pytest.mark.parametrize(
        "profile",
        [
            CONTROL_UI,
            CONTROL_UI_3,
            replace(CONTROL_UI, client_id="webchat"),
            replace(CONTROL_UI, client_id="webchat-ui"),
            replace(CONTROL_UI, client_id="openclaw-browser-copilot"),
        ],
        ids=lambda case: f"{case.client_id} {case.max_protocol}",
    )
    async def test_a_browser_client_without_an_origin_is_refused(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        assert reason(await answer_to(harness, profile)) == MISSING

    async def test_the_origin_is_checked_before_the_token(self, harness: GatewayHarness) -> None:
        origin = ("Origin", "https://evil.example")
        assert reason(await answer_to(harness, CONTROL_UI, origin, token="wrong")) == NOT_ALLOWED


class TestAllowed:
    @pytest.mark.parametrize("profile", [CONTROL_UI, CONTROL_UI_3, CLI])
    @pytest.mark.parametrize("origin", [ALLOWED, "https://OK.example", "https://ok.example:443"])
    async def test_an_origin_named_in_the_setting_is_allowed(
        self, harness: GatewayHarness, profile: Profile, origin: str
    ) -> None:
        assert (await answer_to(harness, profile, ("Origin", origin)))["ok"]

    async def test_all_when_the_setting_says_so(self) -> None:
        async with GatewayHarness(allowed_origins=frozenset({"*"})) as harness:
            assert (await answer_to(harness, CONTROL_UI, ("Origin", "https://any.example")))["ok"]
            answer = await answer_to(harness, CONTROL_UI, ("Origin", "null"))
            assert reason(answer) == MISSING

    @pytest.mark.parametrize("profile", [CONTROL_UI, CONTROL_UI_3, CLI, CLI_3])
    @pytest.mark.parametrize("origin", APPS)
    async def test_an_app_with_a_scheme_of_its_own(self, profile: Profile, origin: str) -> None:
        for allowed in ({origin}, {"*"}):
            async with GatewayHarness(allowed_origins=frozenset(allowed)) as harness:
                assert (await answer_to(harness, profile, ("Origin", origin)))["ok"]
        async with GatewayHarness(allowed_origins=frozenset({ALLOWED})) as harness:
            assert reason(await answer_to(harness, profile, ("Origin", origin))) == NOT_ALLOWED

    async def test_no_page_without_an_origin_of_its_own_even_when_all_are(self) -> None:
        async with GatewayHarness(allowed_origins=frozenset({"*"})) as harness:
            for origin in ("null", "file://", "file:///index.html"):
                assert reason(await answer_to(harness, CONTROL_UI, ("Origin", origin))) == MISSING

    @pytest.mark.parametrize(
        "origin", ["http://localhost:9999", "http://127.0.0.1", "https://[::1]:1"]
    )
    async def test_a_local_page_of_a_local_client_is_allowed(
        self, harness: GatewayHarness, origin: str
    ) -> None:
        assert (await answer_to(harness, CONTROL_UI, ("Origin", origin)))["ok"]

    @pytest.mark.parametrize(
        "name", ["192.168.1.7:18789", "10.0.0.1", "box.local:18789", "box.tail1.ts.net"]
    )
    async def test_the_gateways_own_page_on_a_private_network(
        self, harness: GatewayHarness, name: str
    ) -> None:
        page = ("Origin", f"http://{name}")
        assert (await answer_to(harness, CONTROL_UI, ("Host", name), page))["ok"]
        assert reason(await answer_to(harness, CONTROL_UI, ("Host", "other.local"), page)) == (
            NOT_ALLOWED
        )

    async def test_not_the_own_page_of_a_public_host(self, harness: GatewayHarness) -> None:
        page = ("Origin", "https://gateway.example")
        answer = await answer_to(harness, CONTROL_UI, ("Host", "gateway.example"), page)
        assert reason(answer) == NOT_ALLOWED


class TestHeadersMakeNoClientLocal:
    """No header sent by a client makes it local."""

    @pytest.mark.parametrize(
        "header",
        [
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Real-IP", "127.0.0.1"),
            ("Forwarded", "for=127.0.0.1"),
            ("X-Forwarded-Host", "localhost"),
            ("X-Forwarded-Proto", "https"),
        ],
        ids=lambda header: header[0],
    )
    async def test_a_forwarded_client_has_no_local_pages(
        self, harness: GatewayHarness, header: tuple[str, str]
    ) -> None:
        page = ("Origin", "http://localhost:9999")
        assert reason(await answer_to(harness, CONTROL_UI, page, header)) == NOT_ALLOWED

    async def test_host_localhost_does_not_make_a_page_local(self) -> None:
        trusted = (ipaddress.ip_network("127.0.0.0/8"),)
        async with GatewayHarness(trusted_proxies=trusted) as harness:
            answer = await answer_to(
                harness,
                CONTROL_UI,
                ("Host", "localhost"),
                ("Origin", "http://localhost"),
                ("X-Real-IP", "203.0.113.9"),
            )
            assert reason(answer) == NOT_ALLOWED
