"""hello-ok in both protocols."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.protocol.hello import Features, Grant, hello_ok

FEATURES = Features(methods=["device.pair.list"], events=["tick"])
PAIRED = Grant(
    method="token",
    role="operator",
    scopes=["operator.write", "operator.read"],
    device_token="issued",
    token_scopes=["operator.admin", "operator.read", "operator.write"],
    issued_at_ms=1795328798784,
)
DEVICELESS = Grant(method="token", role="operator", scopes=[])
NODE = Grant(method="token", role="node", scopes=(), device_token="issued", issued_at_ms=1)


def hello(grant: Grant, protocol: int) -> dict[str, Any]:
    text = hello_ok(
        "1:x",
        protocol=protocol,
        version="0.1.0",
        connection_id="boot:7",
        features=FEATURES.encoded(),
        grant=grant,
        uptime_ms=12,
    )
    decoded: dict[str, Any] = msgspec.json.decode(text)
    return decoded


COMMON = {
    "type": "hello-ok",
    "server": {"version": "0.1.0", "connId": "boot:7"},
    "features": {"methods": ["device.pair.list"], "events": ["tick"]},
    "snapshot": {
        "presence": [],
        "health": {},
        "stateVersion": {"presence": 0, "health": 0},
        "uptimeMs": 12,
    },
    "policy": {"maxPayload": 26214400, "maxBufferedBytes": 52428800, "tickIntervalMs": 30000},
}


class TestProtocol4:
    def test_hello_of_a_paired_device_has_its_token(self) -> None:
        assert hello(PAIRED, 4) == {
            "type": "res",
            "id": "1:x",
            "ok": True,
            "payload": {
                **COMMON,
                "protocol": 4,
                "auth": {
                    "method": "token",
                    "role": "operator",
                    "scopes": ["operator.write", "operator.read"],
                    "deviceToken": "issued",
                    "issuedAtMs": 1795328798784,
                },
            },
        }

    def test_without_a_device_there_is_no_device_token(self) -> None:
        assert hello(DEVICELESS, 4)["payload"]["auth"] == {
            "method": "token",
            "role": "operator",
            "scopes": [],
        }

    def test_hello_of_a_node_has_no_scopes(self) -> None:
        assert hello(NODE, 4)["payload"]["auth"] == {
            "method": "token",
            "role": "node",
            "scopes": [],
            "deviceToken": "issued",
            "issuedAtMs": 1,
        }

    def test_no_build_id_or_the_dashboard_sticks_at_refresh_required(self) -> None:
        assert set(hello(PAIRED, 4)["payload"]["server"]) == {"version", "connId"}

    def test_no_session_defaults_or_the_dashboard_goes_to_its_first_run(self) -> None:
        assert "sessionDefaults" not in hello(PAIRED, 4)["payload"]["snapshot"]


class TestProtocol3:
    def test_a_paired_device_gets_the_scopes_of_its_token_and_no_method(self) -> None:
        assert hello(PAIRED, 3)["payload"] == {
            **COMMON,
            "protocol": 3,
            "auth": {
                "deviceToken": "issued",
                "role": "operator",
                "scopes": ["operator.admin", "operator.read", "operator.write"],
                "issuedAtMs": 1795328798784,
            },
        }

    def test_without_a_device_there_is_no_auth(self) -> None:
        assert "auth" not in hello(DEVICELESS, 3)["payload"]
