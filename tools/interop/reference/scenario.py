"""The cases of one device with the reference client; each returns the facts it observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.interop.facts import Facts, Unexpected, either, once, where
from tools.interop.reference.callback_facts import code, refused, refused_at, request_id, welcome
from tools.interop.reference.connections import Visits, until_both

if TYPE_CHECKING:
    from tools.interop.latchkey import Latchkey
    from tools.interop.reference.client import Client, Device, Reference
    from tools.interop.reference.roles import Role

WRONG_TOKEN: Final = "not-the-token-of-this-gateway"


class Scenario:
    """One device in one role, from unknown to removed. The cases are run in this order."""

    def __init__(
        self, latchkey: Latchkey, reference: Reference, device: Device, role: Role
    ) -> None:
        self.visits: Final = Visits(latchkey, device, role)
        self._latchkey = latchkey
        self._reference = reference
        self._device = device
        self._role = role
        self._options = role.options(token=latchkey.gateway_token)
        self._path = f"/v1/devices/{device.id}"
        self._token_path = f"{self._path}/tokens/{role.name}"
        self._request_id = ""
        self._refused_at = ""
        self._waiting: Client | None = None

    async def unpaired(self) -> Facts:
        """Request access for the first time."""
        client = await self.visits.connect(self._options)
        error = await client.refusal()
        self._request_id, self._refused_at = request_id(error), refused_at(error)
        shown = f"device pairing required (requestId: {self._request_id})"
        named = any(shown in event["text"] for event in client.all("log"))
        waiting = await self._latchkey.request_of(self._device.id) or {}
        asks = waiting.get("requestId"), waiting.get("role"), waiting.get("scopes")
        listed = asks == (self._request_id, self._role.name, self._role.scopes)
        return (
            *await refused(client, error),
            either(named, "the client names the request", "the client names no request"),
            either(listed, "it is listed", f"listed is {asks}"),
        )

    async def asked_again(self) -> Facts:
        """Retry until both gateways have refused."""
        ids: set[str] = set()

        async def ask() -> str:
            client = await self.visits.connect(self._options)
            error = await client.refusal()
            await client.stop()
            ids.add(request_id(error))
            return refused_at(error)

        replicas = await until_both(ask)
        return either(ids == {self._request_id}, "same request", "another request"), where(replicas)

    async def approved(self) -> Facts:
        """Approve the request, twice."""
        statuses = [await self._approve() for _ in range(2)]
        _, device = await self._latchkey.call("GET", self._path)
        return (
            *statuses,
            either(device.get("roles") == [self._role.name], "paired", f"paired is {device}"),
            await self._waits(self._device),
        )

    async def admitted(self) -> Facts:
        """Connect, at the gateway that refused it first and at the other one."""
        facts, replicas = await self.visits.admitted_at_both(self._options)
        there = either(self._refused_at in replicas, "also where it was refused", "elsewhere")
        return *facts, where(replicas), there

    async def admitted_by_device_token(self) -> Facts:
        """Connect with only the token that the client has stored."""
        token = await self.visits.stored()
        facts, replicas = await self.visits.admitted_at_both(self._role.token_options())
        same = await self.visits.stored() == token
        return *facts, where(replicas), either(same, "token kept", "token replaced")

    async def outdated_token(self) -> Facts:
        """Connect with a wrong gateway token and a valid stored device token."""
        client = await self.visits.connect(self._role.options(token=WRONG_TOKEN))
        error = await client.refusal()
        hello = await client.hello(after=client.heard.index(error) + 1)
        await client.stop()
        return code(error), "its one retry", *welcome(self._role, hello)

    async def wrong_token(self) -> Facts:
        """Connect with a wrong gateway token, and nothing stored."""
        device = await self._reference.device()
        options = self._role.options(token=WRONG_TOKEN)
        client = await self.visits.connect(options, device=device)
        return *await refused(client, await client.refusal()), await self._waits(device)

    async def tampered(self) -> Facts:
        """Change one bit of the signature of a paired device: the client retries."""
        client = await self.visits.connect(self._options, tampered=True)
        first = await client.refusal()
        close = await client.next("close")
        second = await client.refusal(after=client.heard.index(close) + 1)
        await client.stop()
        same = either(code(second) == code(first), "the same", code(second))
        return code(first), f"closed {close['code']}", "its retry", same

    async def outage(self) -> Facts:
        """Connect while Redis does not respond, and let the client retry."""
        client = self._waiting = await self.visits.connect(self._options)
        error = await client.refusal()
        close = await client.next("close")
        stays = either(bool(client.all("paused")), "reconnect paused", "not paused")
        return code(error), f"closed {close['code']}", stays

    async def outage_over(self) -> Facts:
        """Check that it is admitted once Redis responds, without any approval."""
        if self._waiting is None:
            raise Unexpected("nobody waits")
        hello = (await self._waiting.next("helloOk"))["hello"]
        errors = once(code(error) for error in self._waiting.all("connectError"))
        await self._waiting.stop()
        return (
            *(f"until then {error}" for error in errors),
            *welcome(self._role, hello),
            await self._waits(self._device),
        )

    async def rotated(self) -> Facts:
        """Replace the token during a connection, and fetch the new one with the gateway token."""
        before = await self.visits.stored()
        live = await self.visits.live_at_both(self._options)
        facts, back = await self.visits.closed_by("POST", f"{self._token_path}/rotate", live)
        for (client, _), after in zip(live, back, strict=True):
            facts += welcome(self._role, await client.hello(after=after))
            await client.stop()
        changed = await self.visits.stored() != before
        return *once(facts), either(changed, "token replaced", "token kept")

    async def revoked(self) -> Facts:
        """Revoke the token during a connection that has nothing else."""
        live = await self.visits.live_at_both(self._role.token_options())
        facts, back = await self.visits.closed_by("POST", f"{self._token_path}/revoke", live)
        for (client, device), after in zip(live, back, strict=True):
            facts += await refused(client, await client.refusal(after=after))
            facts += (await self._token_left(device),)
        return once(facts)

    async def asked_after_revocation(self) -> Facts:
        """Request access with the gateway token, get approved again and connect."""
        client = await self.visits.connect(self._options)
        error = await client.refusal()
        await client.stop()
        self._request_id = request_id(error)
        status = await self._approve()
        facts, replicas = await self.visits.admitted_at_both(self._options)
        return code(error), status, *facts, where(replicas)

    async def removed(self) -> Facts:
        """Remove the device during a connection; it is unknown when the client reconnects."""
        live = await self.visits.live_at_both(self._options)
        facts, back = await self.visits.closed_by("DELETE", self._path, live)
        ids: set[str] = set()
        for (client, _), after in zip(live, back, strict=True):
            error = await client.refusal(after=after)
            ids.add(request_id(error))
            facts += await refused(client, error)
        new = len(ids) == 1 and self._request_id not in ids
        return *once(facts), either(new, "one new request", "not one new request")

    async def token_of_removed(self) -> Facts:
        """Connect with the token from before the removal."""
        client = await self.visits.connect(self._role.token_options())
        facts = await refused(client, await client.refusal())
        return *facts, await self._token_left(self._device)

    async def _approve(self) -> str:
        return f"HTTP {await self._latchkey.approve(self._request_id)}"

    async def _waits(self, device: Device) -> str:
        waiting = await self._latchkey.request_of(device.id)
        return either(waiting is None, "nothing waits", "a request waits")

    async def _token_left(self, device: Device) -> str:
        left = await device.stored(self._role.name)
        return either(left is None, "stored token dropped", "stored token kept")
