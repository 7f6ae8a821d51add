"""Where the command runs: which approval it talks to, and with which secrets.

They come from the environment, else from the file that `make run` writes; never from arguments,
which everybody on the machine can read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.device.state import first_of, secret_from

if TYPE_CHECKING:
    from collections.abc import Mapping

APPROVAL_URL: Final = "http://127.0.0.1:18790"
SECRETS_FILE: Final = Path(".data/secrets.env")
ADMIN_TOKEN: Final = "APPROVAL_ADMIN_TOKEN"  # noqa: S105 (the name of a setting)
GATEWAY_TOKEN: Final = "OPENCLAW_GATEWAY_TOKEN"  # noqa: S105 (as above)
_ANY_HOST: Final = frozenset({"", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost"})  # noqa: S104


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment of the command, and the file with secrets beside it."""

    environ: Mapping[str, str] = field(repr=False)
    secrets_file: Path = SECRETS_FILE

    def text(self, name: str) -> str:
        """Return a setting as it stands; empty counts as not set."""
        return self.environ.get(name, "").strip()

    @property
    def approval_url(self) -> str:
        """APPROVAL_URL; in the shell of an approval service that service; else the usual one."""
        if given := self.text("APPROVAL_URL"):
            return given.rstrip("/")
        if not self.is_of_approval:
            return APPROVAL_URL
        host = self.text("HOST").split(",", maxsplit=1)[0].strip()
        if host in _ANY_HOST:
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.text('PORT') or 18790}"

    @property
    def public_url(self) -> str:
        """Where people reach approval, as far as this shell knows."""
        return self.text("APPROVAL_PUBLIC_URL").rstrip("/")

    @property
    def admin_token(self) -> str | None:
        """The operators' token."""
        return self._secret(ADMIN_TOKEN)

    @property
    def gateway_token(self) -> str | None:
        """The token that devices bring along."""
        return self._secret(GATEWAY_TOKEN)

    @property
    def is_of_approval(self) -> bool:
        """Whether this is the shell of an approval service: it alone holds these two."""
        return bool(self.text(ADMIN_TOKEN) and self.text("TOKEN_SECRET"))

    @property
    def is_of_gateway(self) -> bool:
        """Whether this is the shell of a gateway, which may not approve."""
        return bool(self.text(GATEWAY_TOKEN) and self.text("BUS_SECRET")) and not self.text(
            ADMIN_TOKEN
        )

    def _secret(self, name: str) -> str | None:
        return first_of(self.environ.get(name, "")) or secret_from(self.secrets_file, name)
