"""A phone: the reference client with a setup code, first as a node and then as an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tools.interop.facts import Facts, Unexpected, either

if TYPE_CHECKING:
    from tools.interop.reference.client import Client, Device

_ANDROID: Final = {
    "clientName": "openclaw-android",
    "clientDisplayName": "Pixel Test",
    "platform": "android 15",
    "deviceFamily": "Android",
}
NODE: Final[dict[str, Any]] = {**_ANDROID, "mode": "node", "role": "node", "scopes": []}
OPERATOR: Final[dict[str, Any]] = {**_ANDROID, "mode": "ui", "role": "operator"}


class Phone:
    """One phone, with a device key of its own."""

    def __init__(self, device: Device, url: str) -> None:
        self._device = device
        self._url = url
        self._clients: list[Client] = []
        self._more: list[dict[str, Any]] = []

    async def redeem(self, bootstrap_token: str) -> Facts:
        """Connect as a node with the token in a setup code."""
        client = await self._device.connect(url=self._url, **NODE, bootstrapToken=bootstrap_token)
        self._clients.append(client)
        auth = (await client.hello())["auth"]
        self._more = auth.get("deviceTokens", [])
        stored = await self._device.stored("node")
        return (
            f"node by {auth['method']}",
            either(stored == auth["deviceToken"], "node token stored", "node token not stored"),
            f"further tokens: {','.join(one['role'] for one in self._more) or 'none'}",
        )

    async def operate(self) -> Facts:
        """Connect as an operator with the further token that came with the node's."""
        if not self._more:
            raise Unexpected("there is no further token")
        further = self._more[0]
        client = await self._device.connect(
            url=self._url, **OPERATOR, scopes=further["scopes"], deviceToken=further["deviceToken"]
        )
        self._clients.append(client)
        hello = await client.hello()
        listed = await client.request("device.pair.list")
        ids = [one["deviceId"] for one in listed["paired"]]
        auth = hello["auth"]
        return (
            f"operator by {auth['method']}",
            either("operator.admin" in auth["scopes"], "operator.admin", "no operator.admin"),
            either(self._device.id in ids, "lists itself", "does not list itself"),
        )

    async def stop(self) -> None:
        """Stop its clients."""
        for client in self._clients:
            await client.stop()
