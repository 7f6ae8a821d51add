"""Setup codes, and devices that present them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from services.approval.domain.authorization import OPERATOR
from shared.protocol.signing import encode_base64
from shared.setup_tokens import digest_of
from tests.support.approval.devices import Device
from tools.support.setup_codes import read_setup_code

if TYPE_CHECKING:
    from services.approval.setup_codes.service import CreatedCode
    from shared.rpc.messages import AuthorizeDevice
    from tests.integration.approval.replica import Replica

URL: Final = "wss://gw.example.com"
ANDROID: Final[dict[str, Any]] = {
    "role": "node",
    "client": ("openclaw-android", "node"),
    "platform": "Android 15",
    "family": "Android",
    "name": "Pixel",
}
NODE_HOST: Final[dict[str, Any]] = {"role": "node", "client": ("node-host", "node")}


async def create(replica: Replica, profile: str = "full", **more: Any) -> CreatedCode:
    """Create a code as the holder of APPROVAL_ADMIN_TOKEN."""
    return await replica.setup_codes.create(
        more.pop("caller", OPERATOR), profile=profile, public_url=URL, **more
    )


def token_in(created: CreatedCode) -> str:
    """Return the bootstrap token of a new code."""
    return str(read_setup_code(created.text)["bootstrapToken"])


def presents(
    device: Device, token: str, *scopes: str, also: str = "", **asked: Any
) -> AuthorizeDevice:
    """Return the question about a device with a setup code; `also` is a device token beside it."""
    found = device.asks(scopes, token=also, **(asked or ANDROID))
    method = "device-token" if not also else found.method
    return replace(found, method=method, setup_digest=digest_of(token))


def fresh_token() -> str:
    """Return a token that belongs to no code."""
    return encode_base64(bytes.fromhex(Device.new().device_id))
