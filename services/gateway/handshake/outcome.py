"""Inputs and outcomes of the handshake. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from shared.protocol.refusals import Refusal
from shared.rpc.messages import Admitted, AuthorizeDevice, ClientInfo, ReportSecret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.protocol.hello import Grant
    from shared.secret_digests import SecretDigests
    from shared.settings.environment import Secrets


class RequestInfo(msgspec.Struct, frozen=True, gc=False):
    """What the upgrade request says about a client.

    `address` is the client's own address, as reported by trusted proxies. `host` and `origin` are
    the HTTP headers.
    """

    address: str
    direct_loopback: bool
    host: str
    origin: str | None


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """The settings that authentication depends on."""

    gateway_tokens: Secrets
    allowed_origins: frozenset[str]
    digests: SecretDigests
    trusts_local: bool = False
    """Whether direct loopback clients are trusted: they keep scopes and are never locked out."""
    approval_url: str = ""
    """The approval service's public URL, for clients that need pairing; "" if not configured."""
    names_device_in_tokens: bool = False
    """Whether device tokens carry the device id in front, for use over HTTP."""
    operators_need_protocol_4: bool = False
    """Whether the OpenClaw behind the gateway speaks protocol 3 with nodes and probes only."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The client is admitted: its grant, and the data for `hello-ok`."""

    frame_id: str
    protocol: int
    grant: Grant
    device_id: str
    client: ClientInfo
    answer: Admitted | None
    """Approval's answer; None if there was no device to ask about."""


Effect = AuthorizeDevice | ReportSecret | Accepted | Refusal


class Session(msgspec.Struct):
    """An admitted client: its identity, role and granted scopes."""

    connection_id: str
    protocol: int
    role: str
    scopes: Sequence[str]
    device_id: str
    method: str
    address: str = ""
    """The client's own address, as reported by trusted proxies."""
    token_generation: str = ""
    """The generation of the device token it was admitted with; "" without a device."""
    unauthorized_calls: int = 0
    """The number of consecutive calls outside its role."""
