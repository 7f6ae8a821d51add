"""The devices of a load test, with `connect` frames prepared as far as possible."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Final

from shared.device.handshake import Challenge, Credentials, connect_request, encode
from shared.device.identity import DeviceKey
from shared.device.profile import NODE_HOST
from tools.load.client.wire import text_frame

NAME: Final = "latchkey load test"
"""Display name of the devices, which are removed at the end."""
PROFILE: Final = replace(
    NODE_HOST, display_name=NAME, platform="linux", device_family=None, caps=(), commands=()
)
"""The devices' description, always the same: a minimal node."""
REQUEST_ID: Final = "1"
_NONCE: Final = "00000000-0000-4000-8000-00000000feed"
_NOW_MS: Final = 1_234_567_890_123


@dataclass(frozen=True, slots=True)
class Identity:
    """A device as passed to a worker: its key's seed, its token, whether it was approved.

    With an empty device token it connects with the gateway's token.
    """

    seed: bytes = field(repr=False)
    device_token: str = field(default="", repr=False)
    approved: bool = True

    @property
    def device_id(self) -> str:
        """The device's id."""
        return DeviceKey(self.seed).device_id


class LoadDevice:
    """One device with a `connect` that is complete except for clock, nonce and signature."""

    __slots__ = ("_frame", "_key", "_signed", "approved", "index")

    def __init__(self, identity: Identity, gateway_token: str, index: int) -> None:
        self.index = index
        self.approved = identity.approved
        self._key = DeviceKey(identity.seed)
        credentials = (
            Credentials(device_token=identity.device_token)
            if identity.device_token
            else Credentials(token=gateway_token)
        )
        token = identity.device_token or gateway_token
        # Encoded once by the client's own code, then split at clock, nonce and signature.
        text = encode(
            connect_request(Challenge(_NONCE, _NOW_MS), self._key, PROFILE, credentials, REQUEST_ID)
        )
        signature = json.loads(text)["params"]["device"]["signature"]
        head, rest = text.split(signature)
        before_clock, rest = rest.split(str(_NOW_MS))
        before_nonce, end = rest.split(_NONCE)
        self._frame = head, before_clock, before_nonce, end
        who = f"{self._key.device_id}|{PROFILE.client_id}|{PROFILE.mode}|{PROFILE.role}|"
        self._signed = f"v3|{who}|", f"|{token}|", f"|{PROFILE.platform}|"

    def connect(self, nonce: str, now_ms: int) -> bytes:
        """Return the signed frame that answers a challenge."""
        who, token, platform = self._signed
        signature = self._key.sign(f"{who}{now_ms}{token}{nonce}{platform}")
        head, before_clock, before_nonce, end = self._frame
        return text_frame(
            f"{head}{signature}{before_clock}{now_ms}{before_nonce}{nonce}{end}".encode()
        )
