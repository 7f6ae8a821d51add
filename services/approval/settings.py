"""Settings of the approval service, read from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.approval.access.proxy_settings import PROXY_SETTINGS, read_proxy_sign_in
from services.approval.notifications.settings import WEBHOOK_SETTINGS, read_webhooks
from shared.settings.declarations import AnySetting, Choice, Number, Secret
from shared.settings.environment import (
    COMMON,
    GATEWAY_PUBLIC_URL,
    CommonSettings,
    Secrets,
    SettingsReader,
    port_setting,
    read_common,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.approval.access.proxy_identity import ProxySignIn
    from services.approval.notifications.settings import WebhookSettings

PORT: Final = port_setting(18790)
APPROVAL_ADMIN_TOKEN: Final = Secret(
    "APPROVAL_ADMIN_TOKEN",
    "The operators' bearer token for the page and the HTTP API. Ten different wrong ones from an"
    " address within a minute lock it out for five minutes.",
)
TOKEN_SECRET: Final = Secret("TOKEN_SECRET", "Device tokens are derived from it.")
PENDING_TTL_SECONDS: Final = Number(
    "PENDING_TTL_SECONDS",
    "How long a request stays pending after its device last connected.",
    3600,
    least=1,
    most=30 * 86_400,
)
PENDING_LIMIT: Final = Number(
    "PENDING_LIMIT",
    "Maximum number of pending requests. Beyond it, a new request displaces the oldest one of the"
    " address or IPv6 network (/48) with the most; it is refused if no other has more than one.",
    1000,
    least=1,
    most=100_000,
)
PENDING_LIMIT_PER_ADDRESS: Final = Number(
    "PENDING_LIMIT_PER_ADDRESS",
    "Maximum number of pending requests from one address (IPv6: one /64). Beyond it, a new request"
    " displaces an older one from the same address.",
    50,
    least=1,
    most=100_000,
)
SETUP_CODE_ACCESS: Final = Choice(
    "SETUP_CODE_ACCESS",
    "The most access that a setup code may grant. A code for more is issued with this access."
    " `full` includes `operator.admin`, so such a device can approve others; `node` grants no"
    " operator role.",
    "full",
    ("full", "limited", "node"),
)
OWN: Final[tuple[AnySetting, ...]] = (
    PORT,
    APPROVAL_ADMIN_TOKEN,
    TOKEN_SECRET,
    PENDING_TTL_SECONDS,
    PENDING_LIMIT,
    PENDING_LIMIT_PER_ADDRESS,
    SETUP_CODE_ACCESS,
    *PROXY_SETTINGS,
    *WEBHOOK_SETTINGS,
)
ALL: Final = (*COMMON, *OWN)


@dataclass(frozen=True, slots=True)
class Settings:
    """Validated settings of the approval service."""

    common: CommonSettings
    admin_tokens: Secrets
    token_secrets: Secrets
    gateway_public_url: str
    pending_ttl_seconds: float
    pending_limit: int
    pending_limit_per_address: int
    setup_code_access: str
    proxy_sign_in: ProxySignIn
    webhooks: WebhookSettings
    warnings: tuple[str, ...]

    @property
    def pending_ttl_ms(self) -> int:
        """Lifetime of a request after its last refresh, in milliseconds."""
        return int(self.pending_ttl_seconds * 1000)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read all settings; raise SettingsError listing every problem."""
    reader = SettingsReader(environ)
    common = read_common(reader, PORT)
    settings = Settings(
        common=common,
        admin_tokens=reader.secrets(APPROVAL_ADMIN_TOKEN),
        token_secrets=reader.secrets(TOKEN_SECRET),
        gateway_public_url=reader.public_url(GATEWAY_PUBLIC_URL, ("https", "http", "wss", "ws")),
        pending_ttl_seconds=reader.seconds(PENDING_TTL_SECONDS),
        pending_limit=reader.integer(PENDING_LIMIT),
        pending_limit_per_address=reader.integer(PENDING_LIMIT_PER_ADDRESS),
        setup_code_access=reader.choice(SETUP_CODE_ACCESS),
        proxy_sign_in=read_proxy_sign_in(reader, common),
        webhooks=read_webhooks(reader),
        warnings=tuple(reader.warnings),
    )
    reader.finish()
    return settings
