"""An operator's use of `openclaw devices`, with one home directory of the command line.

Each method is one case and returns the facts it observed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tools.interop.cli.output_facts import compared, done, failed, left
from tools.interop.facts import Facts, either
from tools.interop.peer import Peer

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from tools.interop.cli.program import OpenClaw, Ran
    from tools.interop.latchkey import Latchkey

UNKNOWN: Final = "00000000-0000-4000-8000-000000000000"
LABEL: Final = "Kitchen"

HTTP_ONLY: Final = ("lastAskedAtMs", "lastRefusal", "grantsAdmin")
"""Fields of a pending request that only the HTTP API reports."""


class CliScenario:
    """One operator, and the devices of others. Its cases are run in order."""

    def __init__(self, latchkey: Latchkey, openclaw: OpenClaw, ending: AsyncExitStack) -> None:
        self._latchkey = latchkey
        self._openclaw = openclaw
        self._ending = ending
        self._peer = Peer(latchkey)
        self._request_id = ""

    # Connecting.

    async def without_identity(self) -> Facts:
        """List devices before there is an identity: the gateway token alone has no scope."""
        return failed(await self._devices("list"))

    async def asked(self) -> Facts:
        """Run a command that creates an identity, which needs pairing."""
        return await self._paired_after(await self._openclaw("cron", "list"))

    async def asked_for_more(self) -> Facts:
        """Run a command that needs another scope."""
        return await self._paired_after(await self._devices("list"))

    async def schedule(self) -> Facts:
        """Run the first command again after its device is paired."""
        return failed(await self._openclaw("cron", "list"))

    # Reading.

    async def nothing_to_approve(self) -> Facts:
        """Approve the latest request when there is none."""
        return failed(await self._devices("approve", "--latest"))

    async def listed(self) -> Facts:
        """List pending and paired devices while one device is pending."""
        self._request_id = await self._next_peer().ask()
        given = done(await self._devices("list"))
        _, waiting = await self._latchkey.call("GET", "/v1/requests")
        _, paired = await self._latchkey.call("GET", "/v1/devices")
        named = [request["requestId"] for request in given["pending"]] == [self._request_id]
        asked = [
            {name: value for name, value in request.items() if name not in HTTP_ONLY}
            for request in waiting["pending"]
        ]
        return (
            "exit 0",
            either(named, "names the request", f"names {given['pending']}"),
            either(given["pending"] == asked, "waiting as over HTTP", f"{asked} wait"),
            either(
                compared(given["paired"]) == compared(paired["devices"]),
                "paired as over HTTP",
                f"paired are {given['paired']}",
            ),
        )

    # Deciding.

    async def latest_shown(self) -> Facts:
        """Approve the latest: protocol 4's command shows it, and how to approve it by its id."""
        ran = await self._devices("approve", "--latest")
        shown = ran.json
        right = (
            shown["selected"]["requestId"] == self._request_id
            and shown["approvalState"]["kind"] == "new-pairing"
            and self._request_id in shown["approveCommand"]
        )
        return (
            f"exit {ran.status}",
            either(right, "shows it and the command", f"shows {shown}"),
            await self._waits(),
        )

    async def latest_approved(self) -> Facts:
        """Approve the latest: protocol 3's command does so directly."""
        self._request_id = await self._next_peer().ask()
        return await self._approved(await self._devices("approve", "--latest"))

    async def approved(self) -> Facts:
        """Approve a request by its id, and check that its device is admitted."""
        return await self._approved(await self._devices("approve", self._request_id))

    async def unknown(self) -> Facts:
        """Approve an unknown request."""
        return failed(await self._devices("approve", UNKNOWN))

    async def rejected(self) -> Facts:
        """Reject a request."""
        peer = self._next_peer()
        self._request_id = await peer.ask()
        text = done(await self._devices("reject", self._request_id))
        ids = {"requestId": self._request_id, "deviceId": peer.device_id}
        new = await peer.ask() != self._request_id
        return (
            "exit 0",
            either(text == ids, "its ids", f"says {text}"),
            either(new, "another request when it asks again", "the same request"),
        )

    # Managing.

    async def renamed(self) -> Facts:
        """Rename a device."""
        peer = await self._paired()
        text = done(await self._devices("rename", "--device", peer.device_id, "--name", LABEL))
        _, device = await self._latchkey.call("GET", f"/v1/devices/{peer.device_id}")
        named = {"deviceId": peer.device_id, "label": LABEL}
        return (
            "exit 0",
            either(text == named, "id and label", f"says {text}"),
            either(device.get("operatorLabel") == LABEL, "named over HTTP too", f"is {device}"),
        )

    async def rotated(self) -> Facts:
        """Replace the token of a connected device; the new one is for that device alone."""
        body, closed = await self._on_live("rotate")
        # Protocol 3 does not report this.
        withheld = body.get("tokenDelivery", "withheld-cross-device") == "withheld-cross-device"
        secret = withheld and "token" not in body
        await self._peer.come_in()
        return (
            "exit 0",
            either(secret, "token withheld", f"says {body}"),
            closed,
            "comes in again",
        )

    async def revoked(self) -> Facts:
        """Revoke the token of a connected device."""
        body, closed = await self._on_live("revoke")
        self._request_id = await self._peer.ask()
        return (
            "exit 0",
            either(isinstance(body.get("revokedAtMs"), int), "time", f"says {body}"),
            closed,
            await self._waits(),
        )

    async def removed(self) -> Facts:
        """Remove a connected device."""
        peer = await self._paired()
        await peer.come_in()
        text = done(await self._devices("remove", peer.device_id))
        return (
            "exit 0",
            either(text == {"deviceId": peer.device_id}, "its id", f"says {text}"),
            await peer.closed(),
            either(await peer.ask() != "", "unknown when it asks again", ""),
        )

    async def cleared(self) -> Facts:
        """Remove every device, including the command line's own."""
        return await self._cleared()

    async def cleared_with_pending(self) -> Facts:
        """Remove every device and every request."""
        await self._next_peer().ask()
        return *await self._cleared("--pending"), await self._waiting()

    async def unknown_again(self) -> Facts:
        """Run a command after its own device was removed."""
        return failed(await self._devices("list"))

    async def leave(self) -> None:
        """Clear the pending requests of this scenario."""
        _, waiting = await self._latchkey.call("GET", "/v1/requests")
        for request in waiting["pending"]:
            await self._latchkey.call("POST", f"/v1/requests/{request['requestId']}/reject")

    # Building blocks.

    async def _devices(self, *command: str) -> Ran:
        return await self._openclaw("devices", *command)

    def _next_peer(self) -> Peer:
        self._peer = Peer(self._latchkey)
        self._ending.push_async_exit(self._peer)
        return self._peer

    async def _paired(self) -> Peer:
        peer = self._next_peer()
        await peer.approved()
        return peer

    async def _on_live(self, command: str) -> tuple[dict[str, Any], str]:
        """Run it on the token of a connected device; return how that device was closed."""
        peer = await self._paired()
        await peer.come_in()
        on = ("--device", peer.device_id, "--role", "operator")
        text = done(await self._devices(command, *on))
        return text, await peer.closed()

    async def _paired_after(self, ran: Ran) -> Facts:
        """Return why it was refused, with the id replaced, and approve its only request."""
        _, waiting = await self._latchkey.call("GET", "/v1/requests")
        request = waiting["pending"][0]
        request_id: str = request["requestId"]
        status = await self._latchkey.approve(request_id)
        return *failed(ran), f"asks for {' '.join(request['scopes'])}", f"HTTP {status}"

    async def _approved(self, ran: Ran) -> Facts:
        text = done(ran)
        ids = text.get("requestId"), text.get("device", {}).get("deviceId")
        right = ids == (self._request_id, self._peer.device_id)
        await self._peer.come_in()
        return "exit 0", either(right, "its ids", f"says {text}"), "its device comes in"

    async def _cleared(self, *options: str) -> Facts:
        _, before = await self._latchkey.call("GET", "/v1/devices")
        _, asking = await self._latchkey.call("GET", "/v1/requests")
        text = done(await self._devices("clear", "--yes", *options))
        _, after = await self._latchkey.call("GET", "/v1/devices")
        ids = {device["deviceId"] for device in before["devices"]}
        rejected = {request["requestId"] for request in asking["pending"]} if options else set()
        right = (set(text["removedDevices"]), set(text["rejectedPending"])) == (ids, rejected)
        return (
            "exit 0",
            either(right, "what there was", f"says {text}"),
            left(after["devices"]),
        )

    async def _waits(self) -> str:
        waiting = await self._latchkey.request_of(self._peer.device_id) or {}
        same = waiting.get("requestId") == self._request_id
        return either(same, "it waits", "it does not wait")

    async def _waiting(self) -> str:
        _, waiting = await self._latchkey.call("GET", "/v1/requests")
        return either(not waiting["pending"], "nothing waits", "some wait")
