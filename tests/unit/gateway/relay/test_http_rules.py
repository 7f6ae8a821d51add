"""Which HTTP requests go to the upstream, and with whose rights."""

from __future__ import annotations

import secrets

import pytest

from services.gateway.relay.rules.http import (
    Access,
    DeviceToken,
    GatewayToken,
    SocketRoute,
    WrongToken,
    access_of,
    bearer_of,
    request_headers,
    response_headers,
    socket_route_of,
)
from shared.device_tokens import with_device_id
from shared.protocol.signing import encode_base64
from shared.settings.environment import Secrets

HEX_TOKEN = "0123456789abcdef" * 4
DERIVED = encode_base64(secrets.token_bytes(32))


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/chat", "/chat/", "/agents/main/sessions", "/index.html", "/favicon.ico"),
        *("/assets/app-DsEuFQRE.js", "/fonts/a.woff2", "/themes/x.css", "/provider-icons/x.svg"),
        *("/community-art/a.png", "/sw.js", "/manifest.webmanifest", "/apple-touch-icon.png"),
        *("/api/users", "/avatar/", "/avatar", "/control-ui-config.jsonx", "/a%2Fb/c"),
        *("/%63ontrol-ui-config.json", "/__openclaw__/catalog-icon/", "/x/control-ui-config.json"),
    ],
)
def test_pages_and_assets_pass_without_an_identity(path: str) -> None:
    assert access_of(path) is Access.ANONYMOUS


@pytest.mark.parametrize(
    "path",
    [
        *("/control-ui-config.json", "/__openclaw/control-ui-config.json", "/avatar/main"),
        *("/api/users/me/avatar", "/api/users/a%2Fb/avatar", "/plugins/x/app.js"),
        *("/__openclaw__/catalog-icon/x", "/__openclaw__/workspace-icon/a/b"),
        *("/__openclaw__/plugin-icon/x", "/__openclaw__/link-favicon/x"),
        "/__openclaw__/assistant-media",
    ],
)
def test_what_the_dashboard_reads_with_a_token_may_have_an_identity(path: str) -> None:
    assert access_of(path) is Access.WITH_IDENTITY


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/models", "/v1", "/tools/invoke", "/hooks/wake", "/V1/models", "/%76%31/models"),
        *("/metrics", "/health", "/readyz", "/setup", "/__openclaw__/worker"),
        "/__openclaw__/WORKER/x",
        # Other readings of the same bytes.
        *("/avatar/../v1/models", "/avatar/%2e%2e/v1/models", "/avatar/.%2E/v1/models"),
        *("/avatar/./x", "//v1/models", "//evil.example/v1", "/avatar//x", "/\\evil/v1"),
        *("/avatar\\..\\v1", "/avatar/\t../v1", "/a b", "/é", "", "v1", "*", "/a%zz", "/a%2"),
        *("/avatar/x\x00", "/a<b>", "/a|b", '/a"b'),
    ],
)
def test_programs_interfaces_and_paths_with_two_readings_are_nowhere(path: str) -> None:
    assert access_of(path) is Access.NOWHERE


@pytest.mark.parametrize("path", ["/", "/ws", "/openclaw/", "/gateway", "/%41", "/a//b", "//"])
def test_a_client_of_the_protocol_may_connect_on_any_path(path: str) -> None:
    assert socket_route_of(path) is SocketRoute.GATEWAY


@pytest.mark.parametrize(
    "path",
    [
        *("/desktop/observe", "/node-desktop/attach", "/node-portal/attach"),
        *("/__openclaw__/cap/x", "/__openclaw__/cap/x/y"),
    ],
)
def test_sockets_with_a_ticket_are_piped(path: str) -> None:
    assert socket_route_of(path) is SocketRoute.PIPE


@pytest.mark.parametrize(
    "path",
    [
        *("/__openclaw__/worker", "/__openclaw__/cap/", "/__openclaw__/cap", "/__openclaw__/x"),
        *(
            "/desktop/other",
            "/desktop/observe/",
            "/v1/realtime",
            "/hooks/x",
            "/api/x",
            "/plugins/x",
        ),
        *("/%5f_openclaw__/worker", "/desktop/%6fbserve"),
    ],
)
def test_other_sockets_of_the_upstream_are_nowhere(path: str) -> None:
    assert socket_route_of(path) is SocketRoute.NOWHERE


class TestBearer:
    TOKENS = Secrets([HEX_TOKEN, "an older gateway token"])

    @pytest.mark.parametrize("given", ["", "Basic abc", "Bearer", "Bearer  ", HEX_TOKEN])
    def test_nothing_is_no_bearer(self, given: str) -> None:
        assert bearer_of(given, self.TOKENS) is None

    @pytest.mark.parametrize("token", [HEX_TOKEN, "an older gateway token"])
    def test_every_value_of_the_gateway_token_counts(self, token: str) -> None:
        assert bearer_of(f"bearer  {token} ", self.TOKENS) == GatewayToken()

    def test_a_token_with_its_device_id_names_the_device(self) -> None:
        device_id = secrets.token_hex(32)
        named = with_device_id(DERIVED, device_id)
        assert bearer_of(f"Bearer {named}", self.TOKENS) == DeviceToken(device_id, DERIVED)

    @pytest.mark.parametrize("token", ["wrong", "x" * 64, "\udcff\udcfe", "a" * 500])
    def test_anything_else_counts_as_a_guess(self, token: str) -> None:
        assert bearer_of(f"Bearer {token}", self.TOKENS) == WrongToken(counts=True)

    def test_a_device_token_of_before_is_no_guess(self) -> None:
        assert bearer_of(f"Bearer {DERIVED}", self.TOKENS) == WrongToken(counts=False)

    def test_it_is_one_where_a_gateway_token_has_that_form(self) -> None:
        alike = Secrets([HEX_TOKEN, encode_base64(secrets.token_bytes(32))])
        assert bearer_of(f"Bearer {DERIVED}", alike) == WrongToken(counts=True)


def test_headers_that_speak_for_somebody_are_the_gateways_alone() -> None:
    names = [
        *("Authorization", "Cookie", "X-OpenClaw-Scopes", "X-Forwarded-For", "X-Real-IP"),
        *("Forwarded", "Tailscale-User-Login", "X-Latchkey-User-00", "Host", "Origin"),
        *("Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "X-Hop", "Expect"),
    ]
    sent = [(name, "forged") for name in names]
    stored = [("Accept-Encoding", "br"), ("If-None-Match", '"x"'), ("Range", "bytes=0-9")]
    assert request_headers([*sent, *stored], "close, X-Hop") == stored


def test_headers_of_one_hop_and_the_servers_name_do_not_come_back() -> None:
    names = ["Connection", "Keep-Alive", "Transfer-Encoding", "Server", "X-Hop"]
    stored = [("ETag", '"x"'), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Date", "now")]
    assert response_headers([*((name, "x") for name in names), *stored], "X-Hop") == stored


@pytest.mark.parametrize(
    "path",
    [
        *("/x/../desktop/observe", "//desktop/observe", "/desktop\\observe"),
        *("/__openclaw__/cap/../worker", "/__openclaw__/cap/%2e%2e/worker"),
    ],
)
def test_a_path_with_two_readings_is_never_piped(path: str) -> None:
    assert socket_route_of(path) is not SocketRoute.PIPE
