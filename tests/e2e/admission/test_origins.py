"""Apps with their own URL scheme connect to a real gateway; entries that match nothing stop it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3, CONTROL_UI, CONTROL_UI_3
from shared.server.run import EXIT_SETTINGS
from tests.support.websocket.raw_socket import RawSocket
from tools.support.actors import wait_for_log

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

ROOT = Path(__file__).parents[3]
SECONDS = 30
LISTED = ["tauri://apphost", "app://-", "chrome-extension://abcdefghijklmnopabcdefghijklmnop"]
OTHERS = ["tauri://other", "https://apphost", "https://evil.example"]
NEVER = ["null", "file://", "file:///index.html"]


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two gateways: the first allows listed origins, the second any."""
    stack = start_stack(
        approvals=1, gateways=1, gateway_env={"GATEWAY_ALLOWED_ORIGINS": ",".join(LISTED)}
    )
    stack.add_gateway(GATEWAY_ALLOWED_ORIGINS="*")
    return stack


async def error_of(
    stack: Stack, gateway: ServiceProcess, profile: Profile, origin: str
) -> dict[str, Any]:
    """Connect as an unknown device from this origin; returns the refusal."""
    async with await RawSocket.open(gateway.port, headers=[("Origin", origin)]) as raw:
        credentials = Credentials(token=stack.gateway_token)
        answer = await raw.connect(DeviceKey.generate(), profile, credentials)
        assert not answer["ok"], answer
        error: dict[str, Any] = answer["error"]
        assert (await raw.closed()).code == 1008
        return error


@pytest.mark.parametrize(
    "profile",
    [CONTROL_UI, CONTROL_UI_3, CLI, CLI_3],
    ids=lambda case: f"{case.client_id} {case.max_protocol}",
)
class TestOrigins:
    async def test_allowed_origins_get_as_far_as_pairing(
        self, stack: Stack, profile: Profile
    ) -> None:
        listing, open_to_all = stack.gateways
        for origin in LISTED:
            for gateway in (listing, open_to_all):
                error = await error_of(stack, gateway, profile, origin)
                assert error["details"]["code"] == "PAIRING_REQUIRED"

    async def test_other_origins_are_refused_with_the_name_of_our_setting(
        self, stack: Stack, profile: Profile
    ) -> None:
        listing, open_to_all = stack.gateways
        refused = [(listing, origin) for origin in (*OTHERS, *NEVER)]
        for gateway, origin in (*refused, *((open_to_all, origin) for origin in NEVER)):
            error = await error_of(stack, gateway, profile, origin)
            assert error["details"]["code"] == "CONTROL_UI_ORIGIN_NOT_ALLOWED"
            assert "GATEWAY_ALLOWED_ORIGINS" in error["message"]
            assert "gateway.controlUi" not in error["message"]
            connection = error["details"]["connectionId"]
            (line,) = await wait_for_log(gateway, "connection", connection=connection)
            assert line["origin"] == origin
            assert "GATEWAY_ALLOWED_ORIGINS" in line["advice"]


def test_entries_that_match_nobody_stop_the_start_in_one_message() -> None:
    entries = ["https://*.example.com", "null", "wss://x.example", "tauri:localhost", "app://ok"]
    ended = subprocess.run(
        [sys.executable, "-m", "services.gateway"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "GATEWAY_ALLOWED_ORIGINS": ",".join(entries)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == EXIT_SETTINGS
    named = [line for line in ended.stderr.splitlines() if "GATEWAY_ALLOWED_ORIGINS" in line]
    assert [line.split(": ")[1] for line in named] == entries[:-1]
