"""hello-ok in both protocols."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.frames import success
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


COMMON: dict[str, Any] = {
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


TEXT = st.text()
GRANT_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "method": TEXT,
    "role": TEXT,
    "scopes": st.lists(TEXT, max_size=3),
    "device_token": TEXT,
    "token_scopes": st.lists(TEXT, max_size=3),
    "issued_at_ms": st.integers(0, 2**53),
}
GRANTS = st.fixed_dictionaries(GRANT_FIELDS).map(lambda fields: Grant(**fields))
FEATURE_LISTS = st.lists(TEXT, max_size=2).map(
    lambda methods: Features(methods=methods, events=["%b", "%d"])
)


@given(
    frame_id=TEXT,
    protocol=st.sampled_from([3, 4]),
    version=TEXT,
    connection_id=TEXT,
    features=FEATURE_LISTS,
    grant=GRANTS,
    uptime_ms=st.integers(0, 2**53),
    max_payload_bytes=st.integers(1, 2**31),
)
def test_the_template_gives_what_the_encoder_would(
    frame_id: str, features: Features, max_payload_bytes: int, **fields: Any
) -> None:
    text = hello_ok(
        frame_id,
        features=features.encoded(),
        max_payload_bytes=max_payload_bytes,
        **fields,
    )
    payload = {
        "type": "hello-ok",
        "protocol": fields["protocol"],
        "server": {"version": fields["version"], "connId": fields["connection_id"]},
        "features": features,
        "snapshot": {**COMMON["snapshot"], "uptimeMs": fields["uptime_ms"]},
        "policy": {**COMMON["policy"], "maxPayload": max_payload_bytes},
    }
    auth = msgspec.json.decode(text)["payload"].get("auth")
    assert text == success(frame_id, payload if auth is None else {**payload, "auth": auth})
