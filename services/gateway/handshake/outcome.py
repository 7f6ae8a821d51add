"""Who knocks, by which rules it is judged, and what may come of it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from shared.protocol.limits import DISPLAY_NAME_LIMIT_CHARACTERS
from shared.protocol.refusals import Refusal
from shared.rpc.messages import Admitted, AuthorizeDevice, ClientInfo, ReportSecret

if TYPE_CHECKING:
    from shared.protocol.connect import ConnectParams
    from shared.protocol.hello import Grant
    from shared.secret_digests import SecretDigests
    from shared.settings import Secrets


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What is known of a client before its first frame.

    `address` is the client's own, behind whatever proxy. `host` and `origin` are HTTP headers.
    """

    address: str
    direct_loopback: bool
    host: str
    origin: str | None


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """What the gateway's settings say about who may try."""

    gateway_tokens: Secrets
    allowed_origins: frozenset[str]
    digests: SecretDigests
    trusts_local: bool = False
    """Whether clients of this machine itself are trusted (contract §4.1, §7.1)."""
    approval_url: str = ""
    """Where people reach approval, for those who wait for it; empty where that is not known."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The client is admitted: what to tell it, and what its connection may do."""

    frame_id: str
    protocol: int
    grant: Grant
    device_id: str
    client: ClientInfo
    answer: Admitted | None
    """What approval said; None where there was no device to ask about."""


Effect = AuthorizeDevice | ReportSecret | Accepted | Refusal


def client_info(params: ConnectParams) -> ClientInfo:
    """Return what a client says it is; a display name is cut to what is shown."""
    client = params.client
    return ClientInfo(
        id=client.id,
        mode=client.mode,
        version=client.version,
        platform=client.platform,
        device_family=client.device_family or "",
        display_name=(client.display_name or "")[:DISPLAY_NAME_LIMIT_CHARACTERS],
    )
