"""Clients of protocol 3 where an OpenClaw is behind the gateway, which needs protocol 4."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.handshake.handshake import Handshake
from shared.device.profile import CLI, CLI_3, CONTROL_UI_3, NODE_HOST_3, Profile
from shared.protocol.refusals import Refusal
from shared.rpc.messages import AuthorizeDevice
from tests.support.attempts import (
    BROWSER,
    CONNECTION_ID,
    NONCE,
    NOW_MS,
    REMOTE,
    RULES,
    TOKEN,
    client_view,
    connect,
    question_of,
    to_bytes,
)

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import Effect

WHY = "protocol mismatch: the OpenClaw behind this gateway needs protocol 4"
WITH_UPSTREAM = replace(RULES, operators_need_protocol_4=True)


def evaluate(profile: Profile, **secrets: str) -> Effect:
    """Pass a first frame to a handshake in front of an upstream."""
    peer = BROWSER if profile is CONTROL_UI_3 else REMOTE
    handshake = Handshake(CONNECTION_ID, NONCE, peer, WITH_UPSTREAM)
    options: dict[str, Any] = {"token": TOKEN, **secrets}
    return handshake.on_frame(to_bytes(connect(profile, **options)), now_ms=NOW_MS)


@pytest.mark.parametrize("profile", [CLI_3, CONTROL_UI_3])
def test_an_operator_is_refused_before_a_person_is_asked_to_approve(profile: Profile) -> None:
    refused = evaluate(profile)
    assert isinstance(refused, Refusal), refused
    error, code, reason = client_view(refused)
    assert (code, reason) == (1002, WHY)
    assert error == {
        "code": "INVALID_REQUEST",
        "message": WHY,
        "details": {
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": 3,
            "clientMaxProtocol": 3,
            "expectedProtocol": 4,
            "minimumProbeProtocol": 3,
            "connectionId": CONNECTION_ID,
        },
    }


def test_it_is_refused_before_its_token_is_checked() -> None:
    refused = evaluate(CLI_3, token="wrong", device_token="wrong, too")
    assert isinstance(refused, Refusal)
    assert refused.outcome == "upstream-protocol"


@pytest.mark.parametrize(
    "profile",
    [
        NODE_HOST_3,
        replace(CLI_3, mode="probe"),
        replace(CLI, min_protocol=3),
        CLI,
    ],
)
def test_those_that_openclaw_accepts_are_evaluated(profile: Profile) -> None:
    assert isinstance(evaluate(profile), AuthorizeDevice)


def test_a_node_in_name_only_is_an_operator() -> None:
    for changed in (replace(CLI_3, mode="node"), replace(NODE_HOST_3, mode="cli")):
        assert isinstance(evaluate(changed), Refusal)


def test_without_an_upstream_protocol_3_is_spoken() -> None:
    assert question_of(connect(CLI_3)).client.id == "cli"
