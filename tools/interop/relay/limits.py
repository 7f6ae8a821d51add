"""Large frames in both directions, and a client that does not read."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from shared.device.handshake import (
    Admitted,
    Response,
    connect_request,
    encode,
    read_challenge,
    read_frame,
    read_outcome,
    request,
)
from shared.device.profile import CLI
from shared.protocol.closing import CloseCode
from shared.protocol.limits import FRAME_LIMIT_BYTES, PREAUTH_FRAME_LIMIT_BYTES
from tools.interop.cases import Case
from tools.interop.facts import Facts, Unexpected, either

if TYPE_CHECKING:
    from shared.device.client import DeviceClient
    from tools.interop.relay.setup import Relayed, Setup
    from tools.interop.ui.browser import Browser

LARGE_SECONDS: Final = 30.0
FLOOD_CALLS: Final = 150
"""How often the client asks for the configuration's schema, some 2 MB, without reading it."""
FLOOD_SECONDS: Final = 15.0
GROWTH_LIMIT_MB: Final = 96
"""How much a gateway may grow meanwhile: what a connection may have unsent, and slack."""
_SCHEMA: Final = "config.schema"
_SAVE: Final = "agents.files.set"
"""Saves a file at the upstream, which answers with all of it in one frame."""
_MARGIN_BYTES: Final = 4096
"""How much smaller than the largest frame the first file is: more than what surrounds it."""


class LimitScenario:
    """A device that sends and takes more than others."""

    def __init__(self, setup: Setup, _browser: Browser) -> None:
        self._setup = setup

    async def largest(self) -> Facts:
        """Send the largest frame: the upstream answers it."""
        client = await self._setup.joined(0, CLI, "198.51.100.40")
        await client.send_text(_frame(FRAME_LIMIT_BYTES))
        answer = await client.next_stray(within=LARGE_SECONDS)
        message = str((answer.error or {}).get("message"))
        return (either("sessions.list" in message, "answered by the upstream", message),)

    async def too_large(self) -> Facts:
        """Send one byte more."""
        client = await self._setup.joined(1, CLI, "198.51.100.41")
        return (await _closed_after(client, _frame(FRAME_LIMIT_BYTES + 1)),)

    async def too_large_at_first(self) -> Facts:
        """Send a first frame of 65 537 bytes, from an address with an upstream socket."""
        setup = self._setup
        one = await setup.device(0, CLI, "198.51.100.42")
        client = one.client(setup.gateways[0])
        await client.challenge()
        found = await _closed_after(client, _frame(PREAUTH_FRAME_LIMIT_BYTES + 1))
        await client.close()
        return (found,)

    async def largest_down(self) -> Facts:
        """Save files that the upstream answers with the largest frame, then with a larger one."""
        setup = self._setup
        one = await setup.device(1, CLI.with_scopes("operator.admin"), "198.51.100.45")
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(
                setup.gateways[1].ws_url,
                headers={"X-Forwarded-For": one.address},
                max_msg_size=2 * FRAME_LIMIT_BYTES,
            ) as socket,
        ):
            await self._join(socket, one)
            size = FRAME_LIMIT_BYTES - _MARGIN_BYTES
            size += FRAME_LIMIT_BYTES - len(await _call(socket, _SAVE, _file(size)))
            largest = await _call(socket, _SAVE, _file(size))
            await socket.send_str(encode(request(_SAVE, _file(size + 1))))
            async with asyncio.timeout(LARGE_SECONDS):
                while (message := await socket.receive()).type != aiohttp.WSMsgType.CLOSE:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        raise Unexpected(f"no close frame: {message.type}")
                    if len(message.data) > FRAME_LIMIT_BYTES:
                        raise Unexpected("more than the limit arrived")
        again = await one.connect_when_ready(setup.gateways[1])
        emptied = await again.call(_SAVE, _file(0))
        await again.close()
        return (
            f"{len(largest)} bytes arrive",
            either(_content_of(largest) == _file(size)["content"], "unchanged", "changed"),
            f"then closed {message.data}",
            either(emptied.ok, "it connects again", f"{emptied.error}"),
        )

    async def not_read(self) -> Facts:
        """Ask for a lot and read none of it: the gateway's memory stays bounded."""
        setup, gateway = self._setup, self._setup.gateways[0]
        one = await setup.device(0, CLI.with_scopes("operator.admin"), "198.51.100.43")
        bystander = await setup.joined(0, CLI, "198.51.100.44")
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(
                gateway.ws_url,
                headers={"X-Forwarded-For": one.address},
                max_msg_size=FRAME_LIMIT_BYTES,
            ) as socket,
        ):
            await self._join(socket, one)
            sent_mb = FLOOD_CALLS * len(await _call(socket, _SCHEMA, {})) // 2**20
            before, largest = _resident_mb(gateway.pid), 0
            for _ in range(FLOOD_CALLS):
                with suppress(ConnectionError):
                    await socket.send_str(encode(request(_SCHEMA, {})))
            deadline = asyncio.get_running_loop().time() + FLOOD_SECONDS
            served = 0
            while asyncio.get_running_loop().time() < deadline:
                largest = max(largest, _resident_mb(gateway.pid))
                served += (await bystander.call("sessions.list", {})).ok
                await asyncio.sleep(0.5)
        growth = largest - before
        return (
            either(sent_mb > 2 * GROWTH_LIMIT_MB, "more than fits", f"{sent_mb} MB sent"),
            either(growth < GROWTH_LIMIT_MB, "memory bounded", f"{growth} MB more"),
            either(served > 0, "others are served", "nobody is served"),
        )

    async def _join(self, socket: aiohttp.ClientWebSocketResponse, one: Relayed) -> None:
        challenge = read_challenge(read_frame((await socket.receive()).data))
        credentials = one.client(self._setup.gateways[0]).credentials
        await socket.send_str(encode(connect_request(challenge, one.key, one.profile, credentials)))
        answer = read_frame((await socket.receive()).data)
        if not isinstance(answer, Response) or not isinstance(read_outcome(answer), Admitted):
            raise Unexpected(f"refused: {answer}")


def _frame(size: int) -> str:
    head = '{"type":"req","id":"x","method":"sessions.list","params":{"text":""}}'
    return head.replace('""', f'"{"a" * (size - len(head))}"')


async def _closed_after(client: DeviceClient, frame: str) -> str:
    with suppress(Exception):  # it may be closed while this is sent
        await client.send_text(frame)
    close = await client.closed(within=LARGE_SECONDS)
    return f"closed {close.code}"


def _file(size: int) -> dict[str, str]:
    """Return a file of an agent whose text takes so many bytes of JSON.

    It has half of them, in quotes: OpenClaw takes files of up to 16 MiB.
    """
    text = '"' * (size // 2) + "a" * (size % 2)
    return {"agentId": "main", "name": "MEMORY.md", "content": text}


def _content_of(frame: str) -> str:
    return str(json.loads(frame)["payload"]["file"]["content"])


async def _call(socket: aiohttp.ClientWebSocketResponse, method: str, params: object) -> str:
    """Return the frame that answers a call. Raises Unexpected if it is an error."""
    await socket.send_str(encode(request(method, params)))
    async with asyncio.timeout(LARGE_SECONDS):
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise Unexpected(f"{method}: {message.type.name} {message.data}")
            answer = read_frame(message.data)
            if isinstance(answer, Response):
                if not answer.ok:
                    raise Unexpected(f"{method}: {answer.error}")
                return str(message.data)


def _resident_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(one for one in status.splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024


CASES: Final = (
    Case("26 214 400 bytes", LimitScenario.largest, ("answered by the upstream",)),
    Case("one byte more", LimitScenario.too_large, ("closed 1009",)),
    Case(
        "as many from the upstream",
        LimitScenario.largest_down,
        (
            f"{FRAME_LIMIT_BYTES} bytes arrive",
            "unchanged",
            f"then closed {CloseCode.TOO_BIG:d}",
            "it connects again",
        ),
    ),
    Case("65 537 bytes at first", LimitScenario.too_large_at_first, ("closed 1009",)),
    Case(
        "a client that does not read",
        LimitScenario.not_read,
        ("more than fits", "memory bounded", "others are served"),
    ),
)
