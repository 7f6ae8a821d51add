"""Which clients are held, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_struct

from services.gateway.handshake.holding import HoldLimit, hold_limit
from shared.device.profile import (
    ANDROID,
    CLI,
    CLI_3,
    CONTROL_UI,
    CONTROL_UI_3,
    NODE_HOST,
    NODE_HOST_3,
    REFERENCE,
    REFERENCE_3,
    Profile,
)
from shared.protocol.connect import DOCTOR_NAME
from shared.rpc.messages import AuthorizeDevice, ClientInfo


def question(profile: Profile) -> AuthorizeDevice:
    return AuthorizeDevice(
        call_id="boot:1",
        device_id="d" * 64,
        public_key="key",
        role=profile.role or "operator",
        scopes=list(profile.scopes or ()),
        client=ClientInfo(
            profile.client_id,
            profile.mode,
            profile.version,
            profile.platform,
            display_name=profile.display_name or "",
        ),
        method="token",
        address="203.0.113.7",
        protocol=profile.max_protocol,
    )


@pytest.mark.parametrize(
    ("profile", "limit"),
    [
        (CLI, HoldLimit(8.0, reconnects=False)),
        (CLI_3, HoldLimit(8.0, reconnects=False)),
        (REFERENCE, HoldLimit(13.0, reconnects=True)),
        (NODE_HOST, HoldLimit(10.0, reconnects=True)),
        (NODE_HOST_3, HoldLimit(28.0, reconnects=False)),
    ],
)
def test_a_tested_client_is_held_for_less_than_it_waits(profile: Profile, limit: HoldLimit) -> None:
    assert hold_limit(question(profile)) == limit


def test_a_client_with_a_setup_code_is_not_held() -> None:
    assert hold_limit(replace_struct(question(NODE_HOST), setup_digest="d" * 64)) is None


@pytest.mark.parametrize(
    "profile",
    [
        CONTROL_UI,
        CONTROL_UI_3,
        REFERENCE_3,
        ANDROID,
        CLI.with_role("node"),
        NODE_HOST.with_role("operator"),
        replace(CLI, mode="probe"),
        replace(CLI, display_name=DOCTOR_NAME),
    ],
)
def test_other_clients_are_not_held(profile: Profile) -> None:
    assert hold_limit(question(profile)) is None
