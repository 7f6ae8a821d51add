"""What gateways, the command and the upstream's configuration must agree on. Pure.

The upstream trusts a user name in one header when another header is present. It checks the presence
of that header, not its value, so the secret is in the headers' names.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

CLIENT_USER: Final = "latchkey"
"""The upstream user of a relayed client. It must hold no scopes of its own there."""
RELAY_USER: Final = "latchkey-relay"
"""The upstream user that approves and removes devices."""
COMMAND_USER: Final = "latchkey-cli"
"""The upstream user of command lines that connect without a device."""
RELAY_SCOPES: Final = ("operator.admin", "operator.pairing")
"""What approving and removing devices needs at the upstream."""
UNADMITTED_LIMIT_PER_ADDRESS: Final = 4
"""How many upstream sockets one gateway opens for one address before its clients are admitted."""
UPSTREAM_PREAUTH_LIMIT: Final = 32
"""How many sockets an upstream takes from one address before they connect, unless told otherwise.
"""
UPSTREAM_SECRET_MIN_CHARACTERS: Final = 32

_NAME_CHARACTERS: Final = 32
"""Length of the secret part of a header name: 128 bits in hex."""

# What can be wrong with an upstream, as gateways find out. The command has a cause for each.
UNREACHABLE: Final = "upstream-unreachable"
NO_OPENCLAW: Final = "upstream-no-openclaw"
PROXY_NOT_TRUSTED: Final = "upstream-proxy-not-trusted"
LOOPBACK: Final = "upstream-loopback"
AUTH_MODE: Final = "upstream-auth-mode"
OWN_TOKEN: Final = "upstream-own-token"  # noqa: S105 (the name of a problem)
HEADERS: Final = "upstream-headers"
ALLOW_USERS: Final = "upstream-allow-users"
RELAY_RIGHTS: Final = "upstream-relay-rights"
CLIENT_RIGHTS: Final = "upstream-client-rights"
AUTO_APPROVES: Final = "upstream-auto-approves"
ORIGINS: Final = "upstream-origins"
PREAUTH_LIMIT: Final = "upstream-preauth-limit"
CLOCK: Final = "upstream-clock"
REFUSES: Final = "upstream-refuses"
PROBLEMS: Final = (
    UNREACHABLE,
    NO_OPENCLAW,
    PROXY_NOT_TRUSTED,
    LOOPBACK,
    AUTH_MODE,
    OWN_TOKEN,
    HEADERS,
    ALLOW_USERS,
    RELAY_RIGHTS,
    CLIENT_RIGHTS,
    AUTO_APPROVES,
    ORIGINS,
    PREAUTH_LIMIT,
    CLOCK,
    REFUSES,
)


@dataclass(frozen=True, slots=True)
class HeaderNames:
    """The names of the two headers that the upstream is configured with."""

    user: str
    """Carries the upstream user."""
    required: str
    """Has to be present for the user to count."""


def header_names(secret: str) -> HeaderNames:
    """Derive the header names of one value of UPSTREAM_SECRET."""
    return HeaderNames(
        user=f"x-latchkey-user-{_derived(secret, b'user header')}",
        required=f"x-latchkey-key-{_derived(secret, b'required header')}",
    )


def _derived(secret: str, purpose: bytes) -> str:
    key = f"latchkey upstream {secret}".encode()
    return hmac.digest(key, purpose, "sha256").hex()[:_NAME_CHARACTERS]
