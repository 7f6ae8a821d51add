"""GATEWAY_LOCAL_CLIENTS=trust: which checks local clients skip."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs
from multidict import CIMultiDict

from services.gateway.handshake.handshake import Handshake, State
from services.gateway.handshake.outcome import Accepted, Effect
from shared.addresses.client import client_address
from shared.device.profile import CLI, CLI_3, CONTROL_UI, NODE_HOST, REFERENCE, Profile
from shared.protocol.refusals import Refusal
from shared.rpc.messages import AuthorizeDevice, ReportSecret
from tests.support.attempts import (
    CONNECTION_ID,
    LOCAL,
    NONCE,
    NOW_MS,
    REMOTE,
    RULES,
    connect,
    to_bytes,
)

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import RequestInfo

TRUSTING = replace(RULES, trusts_local=True)
WISHED = CLI.with_scopes("operator.pairing", "operator.admin")
NOT_TRUSTED = [
    pytest.param(REMOTE, id="from elsewhere"),
    pytest.param(structs.replace(LOCAL, origin="http://127.0.0.1:18789"), id="with an Origin"),
    pytest.param(structs.replace(LOCAL, direct_loopback=False), id="behind a proxy"),
]


def judged(frame: Any, peer: RequestInfo = LOCAL) -> tuple[Handshake, Effect]:
    """Pass a first frame to a gateway that trusts local clients."""
    handshake = Handshake(CONNECTION_ID, NONCE, peer, TRUSTING)
    return handshake, handshake.on_frame(to_bytes(frame), now_ms=NOW_MS)


def asked(frame: Any, peer: RequestInfo = LOCAL) -> AuthorizeDevice:
    """Return the request that a first frame leads to."""
    _handshake, effect = judged(frame, peer)
    assert isinstance(effect, AuthorizeDevice), effect
    return effect


class TestWithoutDevice:
    @pytest.mark.parametrize("profile", [WISHED, REFERENCE.with_scopes("operator.admin")])
    def test_the_command_line_and_a_backend_keep_their_scopes(self, profile: Profile) -> None:
        handshake, effect = judged(connect(profile, key=None))
        assert isinstance(effect, Accepted), effect
        assert effect.grant.scopes == list(profile.scopes or ())
        assert (effect.device_id, effect.grant.device_token) == ("", "")
        assert handshake.state is State.DONE

    @pytest.mark.parametrize("mode", ["ui", "test", "probe"])
    def test_no_other_client_keeps_one(self, mode: str) -> None:
        _, effect = judged(connect(replace(WISHED, mode=mode), key=None))
        assert isinstance(effect, Accepted), effect
        assert effect.grant.scopes == ()

    @pytest.mark.parametrize("peer", NOT_TRUSTED)
    def test_a_client_that_is_not_local_keeps_none(self, peer: RequestInfo) -> None:
        handshake, effect = judged(connect(WISHED, key=None), peer)
        if isinstance(effect, Refusal):
            assert peer.origin is not None
            return
        assert isinstance(effect, ReportSecret), effect
        assert handshake.state is State.ASKING

    def test_a_wrong_token_is_refused_and_not_counted(self) -> None:
        _, effect = judged(connect(WISHED, key=None, token="wrong"))
        assert isinstance(effect, Refusal), effect
        assert effect.outcome == "token-mismatch"

    def test_a_dashboard_and_a_node_still_need_a_device(self) -> None:
        for profile in (CONTROL_UI, NODE_HOST):
            _, effect = judged(connect(profile, key=None), LOCAL)
            assert isinstance(effect, Refusal), effect


class TestWithDevice:
    @pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["4", "3"])
    def test_approval_learns_that_the_client_is_trusted(self, profile: Profile) -> None:
        assert asked(connect(profile)).trusted

    @pytest.mark.parametrize("peer", NOT_TRUSTED)
    def test_a_client_that_is_not_local_is_not(self, peer: RequestInfo) -> None:
        _, effect = judged(connect(CLI), peer)
        assert not (isinstance(effect, AuthorizeDevice) and effect.trusted)

    def test_a_backend_needs_no_pairing(self) -> None:
        _, effect = judged(connect(REFERENCE.with_scopes("operator.admin")))
        assert isinstance(effect, Accepted), effect
        assert (effect.device_id, effect.grant.device_token) == ("", "")
        assert list(effect.grant.scopes) == ["operator.admin"]

    def test_a_backend_without_the_gateway_token_does(self) -> None:
        assert asked(connect(REFERENCE, token=None, device_token="x" * 43)).trusted


class TestForwardedClientsAreNotLocal:
    """Any forwarding header ends the trust."""

    @pytest.mark.parametrize(
        "header",
        [
            "Forwarded",
            "X-Real-IP",
            "x-forwarded-for",
            "X-Forwarded-Port",
            "X-Railway-Edge",
            "X-Request-Start",
            "X-Envoy-External-Address",
            "Tailscale-User-Name",
            "CF-Connecting-IP",
            "Via",
            "True-Client-IP",
        ],
    )
    def test_a_forwarded_client_is_not_local(self, header: str) -> None:
        headers = CIMultiDict({"Host": "localhost", header: "127.0.0.1"})
        assert not client_address("127.0.0.1", headers, ()).direct_loopback

    def test_the_host_header_is_not_considered(self) -> None:
        assert not client_address("203.0.113.7", CIMultiDict(Host="localhost"), ()).direct_loopback
        assert client_address("127.0.0.1", CIMultiDict(Host="evil.example"), ()).direct_loopback
