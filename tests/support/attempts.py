"""Builders for one attempt at the pure handshake: who connects, from where, with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.gateway.handshake import Effect, Handshake, Peer, Rules, Welcome
from shared.device.handshake import Challenge, Credentials, connect_request
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, Profile
from shared.messages import Admission, Answer
from shared.protocol.refusals import Refusal
from shared.settings import Secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

NONCE: Final = "619d49e9-6fc6-48c8-8273-91ccbf4f7259"
NOW_MS: Final = 1_795_328_509_349
CHALLENGE: Final = Challenge(NONCE, NOW_MS)
TOKEN: Final = "gateway-token-of-32-characters-00"
OLDER_TOKEN: Final = "gateway-token-of-32-characters-99"
PAGE: Final = "https://ok.example"
CONNECTION_ID: Final = "boot:7"

KEY: Final = DeviceKey.from_seed(b"\x11" * 32)
OTHER_KEY: Final = DeviceKey.from_seed(b"\x22" * 32)

RULES: Final = Rules(
    gateway_tokens=Secrets([TOKEN, OLDER_TOKEN]), allowed_origins=frozenset({PAGE})
)
REMOTE: Final = Peer("203.0.113.7", direct_loopback=False, host="gateway.example", origin=None)
LOCAL: Final = Peer("127.0.0.1", direct_loopback=True, host="127.0.0.1:18789", origin=None)


def peer(origin: str | None = None, **changes: Any) -> Peer:
    """Return a remote client, with this origin."""
    return msgspec.structs.replace(REMOTE, origin=origin) if False else _peer(origin, changes)


def _peer(origin: str | None, changes: Mapping[str, Any]) -> Peer:
    values: dict[str, Any] = {
        "address": REMOTE.address,
        "direct_loopback": REMOTE.direct_loopback,
        "host": REMOTE.host,
        "origin": origin,
        **changes,
    }
    return Peer(**values)
