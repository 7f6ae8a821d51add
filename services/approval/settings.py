"""Settings of the approval service, read from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.settings import CommonSettings, Secrets, SettingsReader, read_common

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT: Final = 18790


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
    warnings: tuple[str, ...]

    @property
    def pending_ttl_ms(self) -> int:
        """Lifetime of a request after its last refresh, in milliseconds."""
        return int(self.pending_ttl_seconds * 1000)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read all settings; raise SettingsError listing every problem."""
    reader = SettingsReader(environ)
    common = read_common(reader, default_port=DEFAULT_PORT)
    settings = Settings(
        common=common,
        admin_tokens=reader.secrets("APPROVAL_ADMIN_TOKEN"),
        token_secrets=reader.secrets("TOKEN_SECRET"),
        gateway_public_url=reader.public_url("GATEWAY_PUBLIC_URL", ("https", "http", "wss", "ws")),
        pending_ttl_seconds=reader.seconds("PENDING_TTL_SECONDS", 3600, least=1, most=30 * 86_400),
        pending_limit=reader.integer("PENDING_LIMIT", 1000, least=1, most=100_000),
        pending_limit_per_address=reader.integer(
            "PENDING_LIMIT_PER_ADDRESS", 50, least=1, most=100_000
        ),
        warnings=tuple(reader.warnings),
    )
    reader.finish()
    return settings
