"""`latchkey devices invite`: QR code, commands for nodes, waiting, list and revoke."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest
import segno

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import ANDROID, NODE_HOST, Profile
from tools.support.setup_codes import read_setup_code

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tests.e2e.command.terminal import Terminal
    from tools.support.processes.stack import Stack


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway."""
    return start_stack(approvals=1, gateways=1)


async def redeem(stack: Stack, text: str, profile: Profile = ANDROID) -> None:
    """Connect a device with a setup code."""
    token = read_setup_code(text)["bootstrapToken"]
    url = stack.gateways[0].ws_url
    credentials = Credentials(bootstrap_token=token)
    async with DeviceClient(url, DeviceKey.generate(), profile, credentials=credentials) as client:
        assert isinstance(await client.connect(), Admitted)


async def lines_until(process: asyncio.subprocess.Process, last: str) -> list[str]:
    """Read lines up to the one that begins with `last`."""
    assert process.stdout is not None
    found: list[str] = []
    while not found or not found[-1].startswith(last):
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert line, found
        found.append(line.decode().rstrip("\n"))
    return found


async def test_a_phone(stack: Stack, terminal: Terminal) -> None:
    url = stack.gateways[0].ws_url
    process = await terminal.start("devices", "invite", "--gateway-url", url)
    shown = await lines_until(process, "Revoke it:")
    text = shown[shown.index("Scan it with the OpenClaw app, or paste this setup code there:") + 1]
    drawn = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(drawn, compact=True)
    assert drawn.getvalue().rstrip("\n") in "\n".join(shown)
    assert f"Access: full. Gateway: {url}." in "\n".join(shown)
    await redeem(stack, text)
    out, _err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    assert out.decode().startswith("Paired: Pixel Test (")


async def test_a_node_gets_commands(stack: Stack, terminal: Terminal) -> None:
    url = stack.gateways[0].ws_url
    done = await terminal.run(
        "devices", "invite", "--profile", "node", "--no-wait", "--gateway-url", url
    )
    assert done.code == 0, done
    join, pair = (line.strip() for line in done.out.splitlines()[1:3])
    assert join.startswith(f"npx openclaw connect {stack.gateways[0].url}/j/")
    assert pair.startswith('openclaw node run --pair "oc-pair://')
    await redeem(stack, pair.partition("oc-pair://")[2].rstrip('"'), NODE_HOST)


async def test_list_and_revoke(stack: Stack, terminal: Terminal) -> None:
    url = stack.gateways[0].ws_url
    created = (
        await terminal.run("devices", "invite", "--no-wait", "--json", "--gateway-url", url)
    ).json
    setup_id = created["created"]["setupId"]
    listed = await terminal.run("devices", "invite", "--list")
    assert setup_id in listed.out
    assert created["setupCode"] not in listed.out
    waiting = await terminal.start("devices", "invite", "--gateway-url", url)
    await lines_until(waiting, "Revoke it:")
    refused = await terminal.run("devices", "invite", "--revoke", "all")
    assert refused.code == 6
    done = await terminal.run("devices", "invite", "--revoke", setup_id, "--yes")
    assert done.out == f"Revoked setup code {setup_id}.\n"
    assert (await terminal.run("devices", "invite", "--revoke", "all", "--yes")).code == 0
    out, _err = await asyncio.wait_for(waiting.communicate(), 20)
    assert (waiting.returncode, out.decode()) == (
        1,
        "The setup code is revoked; no device was paired.\n",
    )
    assert (await terminal.run("devices", "invite", "--list")).out == "No setup codes are live.\n"
    unknown = await terminal.run("devices", "invite", "--revoke", "nope", "--yes")
    assert unknown.code == 1
    assert (await terminal.run("devices", "invite", "--revoke", "../x", "--yes")).code == 2


async def test_no_gateway_address(terminal: Terminal) -> None:
    done = await terminal.run("devices", "invite", "--no-wait")
    assert done.code == 1
    assert "GATEWAY_PUBLIC_URL" in done.err
