"""Facts from the reference client's callbacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.interop.facts import Facts, replica

if TYPE_CHECKING:
    from tools.interop.driver import Event
    from tools.interop.reference.client import Client
    from tools.interop.reference.roles import Role

# The client reconnects after 1 s; if it has not by now, it does not reconnect.
PAUSED_SECONDS: Final = 1.5


def refused_at(error: Event) -> str:
    """Return the replica that refused the connect."""
    return replica(error["details"]["connectionId"])


def request_id(error: Event) -> str:
    """Return the request id that the client finds in a refusal, or nothing."""
    found: str = (error["pairing"] or {}).get("requestId", "")
    return found


def code(error: Event) -> str:
    """Return the error code of a refused connect, with the reason if it is about pairing."""
    details = error.get("details") or {}
    received = details.get("code", f"{error.get('gatewayCode')} {error['message']}")
    return f"{received} {error['pairing']['reason']}" if error["pairing"] else received


async def refused(client: Client, error: Event) -> Facts:
    """Return code and close of a refusal, and whether the client stops reconnecting. Stops it."""
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
