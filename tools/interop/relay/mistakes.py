"""Mistakes in the upstream's configuration, and the problems that gateways must report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shared import upstream as known

if TYPE_CHECKING:
    from collections.abc import Callable

Gateway = dict[str, Any]


class Mistake(NamedTuple):
    """A mistake: name, change to the correct `gateway` settings, and expected findings."""

    name: str
    spoil: Callable[[Gateway], Any]
    found: str


# The upstream applies these without a restart.
MISTAKES: Final = (
    Mistake(
        "another user header",
        lambda gateway: gateway["auth"]["trustedProxy"].update(userHeader="x-other"),
        known.HEADERS,
    ),
    Mistake(
        "another required header",
        lambda gateway: gateway["auth"]["trustedProxy"].update(requiredHeaders=["x-other"]),
        known.HEADERS,
    ),
    Mistake(
        "no proxies on its machine",
        lambda gateway: gateway["auth"]["trustedProxy"].update(allowLoopback=False),
        known.LOOPBACK,
    ),
    Mistake(
        "another proxy",
        lambda gateway: gateway.update(trustedProxies=["10.0.0.0/8"]),
        known.PROXY_NOT_TRUSTED,
    ),
    Mistake(
        "users left out",
        lambda gateway: gateway["auth"]["trustedProxy"].update(allowUsers=["latchkey"]),
        known.ALLOW_USERS,
    ),
    Mistake(
        "no scopes for Latchkey",
        lambda gateway: gateway["auth"]["identityScopes"].pop(known.RELAY_USER),
        known.RELAY_RIGHTS,
    ),
    Mistake(
        "scopes for all clients",
        lambda gateway: gateway["auth"]["identityScopes"].update(
            {known.CLIENT_USER: ["operator.admin"]}
        ),
        known.CLIENT_RIGHTS,
    ),
    Mistake(
        "approves by itself",
        lambda gateway: gateway["auth"]["trustedProxy"]["deviceAutoApprove"].update(enabled=True),
        known.AUTO_APPROVES,
    ),
    Mistake(
        "another origin",
        lambda gateway: gateway["controlUi"].update(allowedOrigins=["https://other.example"]),
        known.ORIGINS,
    ),
)
