"""Refusals for a first frame that is not a connect, or has invalid params."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.device.profile import CLI, CLI_3
from shared.protocol import refusals
from tests.support.attempts import (
    NOW_MS,
    alter,
    client_view,
    connect,
    new_handshake,
    refusal_of,
    to_bytes,
)
from tests.unit.gateway.handshake.refusal_rows import row


class TestParams:
    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda p: p["device"].pop("nonce"), "at /device: must have required property 'nonce'"),
            (
                lambda p: p["device"].update(nonce=""),
                "at /device/nonce: must not have fewer than 1 characters",
            ),
            (lambda p: p["device"].update(signedAt="0"), "at /device/signedAt: must be integer"),
            (
                lambda p: p["client"].update(id="nope"),
                "at /client/id: must be equal to one of the allowed values",
            ),
            (
                lambda p: p["client"].update(mode="nope"),
                "at /client/mode: must be equal to one of the allowed values",
            ),
            (lambda p: p.clear(), "must have required property 'minProtocol'"),
        ],
    )
    def test_the_first_problem_is_reported(self, change: Any, problem: str) -> None:
        assert client_view(refusal_of(alter(connect(), change))) == row(
            f"invalid connect params: {problem}"
        )

    def test_protocol_3_gets_all_problems(self) -> None:
        frame = alter(connect(CLI_3), lambda params: params["client"].clear())
        names = ("id", "version", "platform", "mode")
        text = "; ".join(f"at /client: must have required property '{name}'" for name in names)
        assert client_view(refusal_of(frame)) == row(f"invalid connect params: {text}")

    def test_a_connect_without_params_is_refused(self) -> None:
        frame = {"type": "req", "id": "1:x", "method": "connect"}
        assert client_view(refusal_of(frame)) == row(
            "invalid connect params: must have required property 'minProtocol'"
        )

    @pytest.mark.parametrize(("minimum", "maximum"), [(5, 5), (1, 2), (4, 3), (6, 10**30)])
    def test_a_connect_without_a_common_protocol_is_refused(
        self, minimum: int, maximum: int
    ) -> None:
        frame = connect(replace(CLI, min_protocol=minimum, max_protocol=maximum))
        assert client_view(refusal_of(frame)) == row(
            "protocol mismatch",
            {
                "code": "PROTOCOL_MISMATCH",
                "clientMinProtocol": minimum,
                "clientMaxProtocol": maximum,
                "expectedProtocol": 4,
                "minimumProbeProtocol": 3,
            },
            close_code=1002,
        )

    @pytest.mark.parametrize("role", ["admin", "Operator", " operator", "operator\x00"])
    def test_an_unknown_role_is_refused(self, role: str) -> None:
        assert client_view(refusal_of(connect(replace(CLI, role=role)))) == row("invalid role")


class TestFirstFrame:
    @pytest.mark.parametrize("method", ["health", "Connect", "device.pair.list"])
    def test_another_method_is_refused_as_the_first_frame(self, method: str) -> None:
        frame = {"type": "req", "id": "1:x", "method": method, "params": {}}
        assert client_view(refusal_of(frame)) == row(
            "invalid handshake: first request must be connect"
        )

    @pytest.mark.parametrize(
        "frame",
        [
            {"type": "event", "event": "x"},
            {"type": "res", "id": "1", "ok": True},
            [],
            [connect()],
            None,
            7,
            "connect",
            {},
            {"type": "req", "method": "connect", "params": {}},
            {"type": "req", "id": "", "method": "connect", "params": {}},
            {"type": "req", "id": 1, "method": "connect", "params": {}},
            {"type": "req", "id": "1", "params": {}},
            {**connect(), "type": "request"},
            {name: value for name, value in connect().items() if name != "type"},
            {**connect(), "traceparent": "x" * 129},
        ],
    )
    def test_no_request_is_closed_without_a_frame(self, frame: Any) -> None:
        assert client_view(refusal_of(frame)) == (None, 1008, "invalid request frame")

    @pytest.mark.parametrize("text", [b"", b"hello", b"{", b"\xff", b"[" * 60_000, b"\x00"])
    def test_not_json_is_closed_without_a_frame(self, text: bytes) -> None:
        assert client_view(refusal_of(text)) == (None, 1000, "")

    @pytest.mark.parametrize(
        "change",
        [
            lambda params: params.update(role="worker"),
            lambda params: params["client"].update(mode="worker"),
            lambda params: params["client"].update(id="openclaw-worker"),
            lambda params: params.update(role="worker", minProtocol=0, junk=1),
            lambda params: (params.clear(), params.update(role="worker")),
        ],
    )
    def test_workers_are_closed_without_a_frame(self, change: Any) -> None:
        refusal = refusal_of(alter(connect(), change))
        assert client_view(refusal) == (None, 1008, "invalid-handshake")

    def test_worker_role_in_protocol_3_is_no_role(self) -> None:
        assert client_view(refusal_of(connect(replace(CLI_3, role="worker")))) == row(
            "invalid role"
        )

    def test_what_the_socket_itself_refuses(self) -> None:
        assert client_view(refusals.TOO_BIG) == (None, 1009, "")
        assert client_view(refusals.TOO_MANY_FRAMES) == (
            None,
            1008,
            "too many pending handshake frames",
        )

    def test_the_answer_has_the_id_of_the_request(self) -> None:
        for frame in (
            connect(token=None),
            {**connect(), "method": "x"},
            {**connect(), "params": {}},
        ):
            handshake = new_handshake()
            handshake.on_frame(to_bytes({**frame, "id": "mine"}), now_ms=NOW_MS)
            assert handshake.frame_id == "mine"
