"""What the relay changes in frames, and where frames go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.gateway.relay.rules import rewriting
from shared.protocol.limits import PREAUTH_FRAME_LIMIT_BYTES


def connect(**params: Any) -> bytes:
    """Return a `connect` with these parameters."""
    return json.dumps({"type": "req", "id": "c", "method": "connect", "params": params}).encode()


class TestPrematureConnect:
    @pytest.mark.parametrize("nonce", ["", "guessed"])
    def test_a_connect_with_a_device_is_premature_whatever_its_nonce(self, nonce: str) -> None:
        assert (
            rewriting.premature_connect(connect(device={"nonce": nonce}), challenged=False) == "c"
        )

    @pytest.mark.parametrize(
        "frame",
        [
            connect(auth={"token": "t"}),
            connect(device={}).replace(b'"connect"', b'"health"'),
            connect(device={}).replace(b'"c"', b"7"),
            b'{"device":',
            b"[]",
            b"[" * 20_000,
            connect(device={"text": "a" * PREAUTH_FRAME_LIMIT_BYTES}),
        ],
    )
    def test_every_other_frame_is_left_to_the_handshake(self, frame: bytes) -> None:
        assert rewriting.premature_connect(frame, challenged=False) is None

    @pytest.mark.parametrize(("nonce", "found"), [("", "c"), ("n", None)])
    def test_after_a_challenge_only_an_empty_nonce_tells(
        self, nonce: str, found: str | None
    ) -> None:
        frame = connect(device={"nonce": nonce})
        assert rewriting.premature_connect(frame, challenged=True) == found


class TestRemovingNodes:
    def test_the_node_and_the_frame_are_named(self) -> None:
        frame = b'{"type":"req","id":"r","method":"node.pair.remove","params":{"nodeId":" n "}}'
        call = rewriting.revoked_node(frame)
        assert call is not None
        assert (call.frame_id, call.method, call.params) == (
            "r",
            "node.pair.remove",
            {"nodeId": "n"},
        )

    @pytest.mark.parametrize(
        "params", ['{"nodeId":7}', "{}", "[]", "7", '{"nodeId":"a","nodeId":null}']
    )
    def test_what_names_no_node_is_left_to_the_upstream(self, params: str) -> None:
        frame = f'{{"type":"req","id":"r","method":"node.pair.remove","params":{params}}}'
        assert rewriting.revoked_node(frame.encode()) is None

    def test_a_node_id_that_is_not_utf8_is_left_to_the_upstream(self) -> None:
        frame = b'{"type":"req","id":"r","method":"node.pair.remove","params":{"nodeId":"\xff"}}'
        assert rewriting.revoked_node(frame) is None

    @pytest.mark.parametrize(
        "method", ["node.pair.remove", "node\\u002epair.remove", "n\\u006fde.pair.remove"]
    )
    def test_every_spelling_is_noticed(self, method: str) -> None:
        frame = f'{{"type":"req","id":"r","method":"{method}","params":{{}}}}'
        assert rewriting.route_of(frame.encode()) is rewriting.Route.REMOVES_NODE
