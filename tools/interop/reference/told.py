"""Facts from what the reference client calls back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.interop.facts import Facts, replica

if TYPE_CHECKING:
    from tools.interop.driver import Event
    from tools.interop.reference.client import Client
    from tools.interop.reference.roles import Role

# The client's first reconnect comes after 1 s; one that did not come by then does not come.
PAUSED_SECONDS: Final = 1.5


def refused_at(error: Event) -> str:
    """Return the replica that refused."""
    return replica(error["details"]["connectionId"])


def request_id(error: Event) -> str:
    """Return the request id that the client reads from a refusal, or nothing."""
    found: str = (error["pairing"] or {}).get("requestId", "")
    return found


def code(error: Event) -> str:
    """Return why a connect was refused: the code, and the reason where it is about pairing."""
    details = error.get("details") or {}
    told = details.get("code", f"{error.get('gatewayCode')} {error['message']}")
    return f"{told} {error['pairing']['reason']}" if error["pairing"] else told


async def refused(client: Client, error: Event) -> Facts:
    """Return why and how it was refused, and whether the client stays away. Stops it."""
    at = client.heard.index(error)
    close = await client.next("close", after=at)
    paused = any(event["event"] == "paused" for event in client.heard[at:])
    await asyncio.sleep(PAUSED_SECONDS)
    attempts = sum(event["event"] in {"connectError", "helloOk"} for event in client.heard[at:])
    await client.stop()
    stays = "reconnect paused" if paused and attempts == 1 else "no pause"
    return code(error), f"closed {close['code']}", stays


def welcome(role: Role, hello: Event) -> Facts:
    """Return how it was admitted."""
    auth = hello["auth"]
    given = auth["role"], auth["scopes"], bool(auth.get("deviceToken"))
    facts = f"hello-ok {hello['protocol']}", f"by {auth['method']}"
    return facts if given == (role.name, role.scopes, True) else (*facts, f"with {given}")
