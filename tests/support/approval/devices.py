"""Devices as gateways report them: what each requests, its proof already verified."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from dataclasses import dataclass
from typing import Final

from shared.protocol.signing import encode_base64
from shared.rpc.messages import AuthorizeDevice, ClientInfo

READ: Final = ("operator.read",)
READ_PAIRING: Final = ("operator.read", "operator.pairing")

_call_numbers: Final = itertools.count(1)


@dataclass(frozen=True)
class Device:
    """One device, by its id and key."""

    device_id: str
    public_key: str

    @classmethod
    def new(cls) -> Device:
        """Return a new device."""
        key = secrets.token_bytes(32)
        return cls(hashlib.sha256(key).hexdigest(), encode_base64(key))

    def asks(
        self,
        scopes: tuple[str, ...] = READ,
        *,
        role: str = "operator",
        address: str = "",
        token: str = "",
        name: str = "",
        platform: str = "linux",
        family: str = "Linux",
        call_id: str = "",
        public_key: str = "",
        client: tuple[str, str] = ("cli", "cli"),
    ) -> AuthorizeDevice:
        """Return its request; `token` is the device token it sends, if any.

        `client` is the client's id and mode.
        """
        return AuthorizeDevice(
            call_id=call_id or f"gateway:{next(_call_numbers)}",
            device_id=self.device_id,
            public_key=public_key or self.public_key,
            role=role,
            scopes=list(scopes),
            client=ClientInfo(*client, "1", platform, family, name),
            method="device-token" if token else "token",
            address=address,
            protocol=4,
            token_candidate=token,
            candidate_field="deviceToken" if token else "",
        )
