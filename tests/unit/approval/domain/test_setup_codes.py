"""What a setup code is, grants and accepts; the gateway's address in it."""

from __future__ import annotations

import base64
import json

import pytest
from msgspec.structs import replace

from services.approval.domain import setup_codes
from services.approval.domain.errors import InsecureGatewayUrl, InvalidGatewayUrl, NoJoinUrl
from services.approval.domain.setup_codes import (
    LIFETIME_MS,
    PROFILES,
    Leg,
    capped,
    matches,
    new_code,
    read_code,
    read_short_code,
    refusal_of,
    setup_code_of,
    token_of,
)
from services.approval.domain.setup_urls import gateway_url
from shared.protocol.signing import encode_base64
from shared.rpc.messages import AuthorizeDevice, ClientInfo
from shared.setup_tokens import digest_of, setup_id_of
from tests.support.approval.devices import Device

NOW_MS = 1_796_029_160_000
SHORT = bytes(range(16))
TOKEN = token_of(SHORT)


def client(
    client_id: str = "openclaw-android",
    platform: str = "Android 15",
    family: str = "Android",
    mode: str = "node",
) -> ClientInfo:
    return ClientInfo(client_id, mode, "1", platform, family)


def question(
    device: Device, *scopes: str, role: str = "node", token: str = TOKEN
) -> AuthorizeDevice:
    return replace(device.asks(scopes, role=role), setup_digest=digest_of(token))


class TestCode:
    def test_the_token_follows_from_the_short_code_alone(self) -> None:
        assert len(TOKEN) == 43
        assert token_of(SHORT) == TOKEN != token_of(bytes(16))
        assert read_short_code(encode_base64(SHORT)) == SHORT

    @pytest.mark.parametrize(
        "text", ["", "abc", "A" * 21, "A" * 21 + "B", "A" * 23, "+" * 22, "é" * 22]
    )
    def test_other_texts_are_no_short_codes(self, text: str) -> None:
        assert read_short_code(text) is None

    def test_the_text_is_json_in_base64url_without_padding(self) -> None:
        text = setup_code_of("wss://gw.example.com/ws", TOKEN, 1_796_029_762_259)
        payload = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        assert payload == (
            b'{"url":"wss://gw.example.com/ws","bootstrapToken":"%s","expiresAtMs":1796029762259}'
            % TOKEN.encode()
        )
        assert "=" not in text

    def test_what_is_stored_reveals_no_token(self) -> None:
        code = new_code(SHORT, "full", "wss://gw", created_by="operator:x", now_ms=NOW_MS)
        stored = setup_codes.encode_code(code)
        assert TOKEN.encode() not in stored
        assert encode_base64(SHORT).encode() not in stored
        assert SHORT not in stored
        assert read_code(b"0" * 16 + stored).code == code
        assert code.expires_at_ms == NOW_MS + 600_000

    def test_the_id_is_a_uuid_that_depends_on_the_token(self) -> None:
        one, other = (setup_id_of(digest_of(token)) for token in (TOKEN, "another"))
        assert one != other
        assert one[14] == "4"
        assert one[19] in "89ab"


class TestProfiles:
    @pytest.mark.parametrize(
        ("profile", "access", "scopes"),
        [
            ("full", "full", "admin approvals questions read talk.secrets write"),
            ("limited", "limited", "approvals questions read talk.secrets write"),
            ("voice-node", "limited", "read talk"),
            ("node", "node", ""),
        ],
    )
    def test_what_each_profile_grants(self, profile: str, access: str, scopes: str) -> None:
        grants = PROFILES[profile]
        assert grants.access == access
        assert list(grants.scopes) == [f"operator.{scope}" for scope in scopes.split()]
        assert grants.roles == (("node",) if profile == "node" else ("node", "operator"))

    @pytest.mark.parametrize(
        ("profile", "about", "expected"),
        [
            ("full", client(), True),
            ("limited", client(platform=" ANDROID "), True),
            ("full", client(platform="androidx"), False),
            ("full", client(family=""), False),
            ("full", client(mode="ui"), False),
            ("full", client("openclaw-ios", "iOS 19.1", "iPhone"), True),
            ("full", client("openclaw-ios", "iPadOS", "iPad"), True),
            ("full", client("openclaw-ios", "iOS 19", "Android"), False),
            ("full", client("openclaw-ios", "iosx", "iPhone"), False),
            ("full", client("openclaw-watchos", "watchOS 12", "Watch"), False),
            ("full", client("openclaw-macos", "macOS 26", "Mac"), False),
            ("full", client("node-host", "linux", "Linux"), False),
            ("full", client("test"), False),
            ("node", client("node-host", "linux", "Linux"), True),
            ("node", client("node-host", "whatever", ""), True),
            ("node", client("node-host", "linux", "Linux", mode="cli"), False),
            ("node", client(), False),
            ("voice-node", client("node-host", "esp32 s3", "ESP32"), True),
            ("voice-node", client("node-host", "ESP32", "esp32"), True),
            ("voice-node", client("node-host", "esp32", "Linux"), False),
            ("voice-node", client("node-host", "linux", "Linux"), False),
            ("voice-node", client(), False),
            # Only ASCII letters change case: the Kelvin sign is no k.
            ("full", client("openclaw-ios", "iOS", "IPHONE\u212a"), False),
        ],
    )
    def test_which_clients_need_no_approval(
        self, profile: str, about: ClientInfo, *, expected: bool
    ) -> None:
        assert matches(profile, about) is expected

    @pytest.mark.parametrize(
        ("asked", "cap", "private", "issued"),
        [
            ("full", "full", False, ("full", False)),
            ("full", "full", True, ("limited", True)),
            ("full", "limited", False, ("limited", True)),
            ("full", "node", False, ("node", True)),
            ("limited", "node", True, ("node", True)),
            ("limited", "full", True, ("limited", False)),
            ("voice-node", "limited", True, ("voice-node", False)),
            ("voice-node", "node", False, ("node", True)),
            ("node", "node", True, ("node", False)),
        ],
    )
    def test_the_cap(
        self, *, asked: str, cap: str, private: bool, issued: tuple[str, bool]
    ) -> None:
        assert capped(asked, cap, is_private=private) == issued


class TestRefusals:
    def test_every_reason(self) -> None:
        device, other = Device.new(), Device.new()
        code = new_code(SHORT, "limited", "wss://gw", created_by="operator:x", now_ms=NOW_MS)
        bound = replace(code, device_id=device.device_id, public_key=device.public_key)
        asked = question(device)
        assert refusal_of(code, asked, NOW_MS) == ""
        assert refusal_of(bound, asked, NOW_MS) == ""
        assert refusal_of(None, asked, NOW_MS) == "unknown"
        assert refusal_of(code, question(device, token="another"), NOW_MS) == "unknown"
        assert refusal_of(code, asked, NOW_MS + LIFETIME_MS - 1) == ""
        assert refusal_of(code, asked, NOW_MS + LIFETIME_MS) == "expired"
        assert refusal_of(replace(code, used_at_ms=NOW_MS), asked, NOW_MS) == "used"
        assert refusal_of(replace(code, revoked_at_ms=NOW_MS), asked, NOW_MS) == "revoked"
        assert refusal_of(bound, question(other), NOW_MS) == "other-device"
        stolen = replace(asked, public_key=other.public_key)
        assert refusal_of(bound, stolen, NOW_MS) == "other-device"
        staged = replace(bound, staged=Leg("operator", ("operator.read",)))
        assert refusal_of(staged, asked, NOW_MS) == "other-leg"
        same = question(device, "operator.read", role="operator")
        assert refusal_of(staged, same, NOW_MS) == ""

    @pytest.mark.parametrize(
        ("profile", "role", "scopes", "refused"),
        [
            ("full", "operator", ("operator.pairing",), False),  # covered by admin
            ("limited", "operator", ("operator.pairing",), True),
            ("limited", "operator", ("operator.talk",), False),  # covered by write
            ("full", "node", ("operator.read",), True),
            ("full", "worker", (), True),
            ("node", "operator", (), True),
        ],
    )
    def test_role_and_scopes(
        self, *, profile: str, role: str, scopes: tuple[str, ...], refused: bool
    ) -> None:
        code = new_code(SHORT, profile, "wss://gw", created_by="x", now_ms=NOW_MS)
        found = refusal_of(code, question(Device.new(), *scopes, role=role), NOW_MS)
        assert found == ("role-or-scope" if refused else "")


class TestUrls:
    @pytest.mark.parametrize(
        ("given", "url"),
        [
            ("wss://GW.Example.COM:443/ws/", "wss://gw.example.com/ws"),
            ("https://gw.example.com", "wss://gw.example.com"),
            ("https://gw.example.com:8443/a/b", "wss://gw.example.com:8443/a/b"),
            ("ws://127.0.0.1:80/", "ws://127.0.0.1"),
            ("http://localhost:18789", "ws://localhost:18789"),
            ("localhost:18789", "ws://localhost:18789"),
            ("ws://[::1]:18789", "ws://[::1]:18789"),
            ("ws://[FD00::0:1]:18789", "ws://[fd00::1]:18789"),
        ],
    )
    def test_normal_form(self, given: str, url: str) -> None:
        assert gateway_url(given, "x").url == url

    @pytest.mark.parametrize(
        "given",
        [
            "ftp://x",
            "wss://u:p@gw.example.com",
            "wss://gw.example.com?x=1",
            "wss://gw.example.com/#x",
            "wss://",
            "wss://gw.example.com:99999",
            "wss://gw.example.com:0",
            "wss://gw example.com",
            "wss://[fd00::zz]",
            "wss://" + "a" * 2000,
            'wss://gw"x',
            "wss://gé.example",
            "javascript:alert(1)",
        ],
    )
    def test_invalid(self, given: str) -> None:
        with pytest.raises(InvalidGatewayUrl):
            gateway_url(given, "x")

    @pytest.mark.parametrize(
        "host",
        ["gw.example.com", "8.8.8.8", "100.64.1.2", "x.ts.net", "172.32.0.1", "[2001:db8::1]"],
    )
    def test_plain_to_a_public_host(self, host: str) -> None:
        with pytest.raises(InsecureGatewayUrl):
            gateway_url(f"ws://{host}:18789", "x")
        assert not gateway_url(f"wss://{host}:18789", "x").is_private

    @pytest.mark.parametrize(
        "host",
        [
            "10.0.2.2",
            "192.168.1.20",
            "172.16.0.1",
            "169.254.9.9",
            "my-mac.local",
            "[fe80::1]",
            "[fd00::1]",
        ],
    )
    def test_plain_on_a_local_network(self, host: str) -> None:
        found = gateway_url(f"ws://{host}:18789", "x")
        assert found.is_private
        with pytest.raises(NoJoinUrl):
            found.join_url("s")

    def test_join_urls(self) -> None:
        assert gateway_url("wss://gw.example.com/ws", "x").join_url("s") == (
            "https://gw.example.com/ws/j/s"
        )
        assert gateway_url("ws://127.0.0.1:1", "x").join_url("s") == "http://127.0.0.1:1/j/s"

    def test_the_payload_is_json(self) -> None:
        found = json.loads(setup_codes.payload_of("wss://gw", TOKEN, 1))
        assert list(found) == ["url", "bootstrapToken", "expiresAtMs"]
