"""Where the command runs: which approval it talks to, and with which secrets.

They come from the environment, else from the file that `make run` writes; never from arguments,
which everybody on the machine can read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from services.cli.errors import Misused
from shared.device.state import first_of, secret_from
from shared.running import default_secrets_file, find_run
from shared.settings import is_bare_scheme
from shared.typed_address import AddressError, approval_address, is_this_machine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

APPROVAL_URL: Final = "http://127.0.0.1:18790"
GATEWAY_URL: Final = "ws://127.0.0.1:18789"
ADMIN_TOKEN: Final = "APPROVAL_ADMIN_TOKEN"  # noqa: S105 (the name of a setting)
GATEWAY_TOKEN: Final = "OPENCLAW_GATEWAY_TOKEN"  # noqa: S105 (as above)
_ANY_HOST: Final = frozenset({"", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost"})  # noqa: S104


@dataclass(frozen=True, slots=True)
class Config:
    """The environment of the command, and the file with secrets beside it.

    Which services `make run` has started is found beside that file, too.
    """

    environ: Mapping[str, str] = field(repr=False)
    given_secrets_file: Path | None = None
    """The file that somebody named; None where it is where `make run` keeps it."""

    @property
    def secrets_file(self) -> Path:
        """Where secrets stand that the environment does not have."""
        return self.given_secrets_file or default_secrets_file(self.environ)

    def text(self, name: str) -> str:
        """Return a setting as it stands; empty counts as not set."""
        return self.environ.get(name, "").strip()

    @property
    def approval_url(self) -> str:
        """APPROVAL_URL; in the shell of an approval service that service; else that of the run.

        Raises Misused.
        """
        given = self.text("APPROVAL_URL")
        if given and not is_bare_scheme(given):
            try:
                return approval_address(given)
            except AddressError as error:
                raise Misused("approval-url", f"APPROVAL_URL: {error}") from None
        if not self.is_of_approval:
            run = find_run(self.secrets_file)
            return run.approval_url if run else APPROVAL_URL
        host = self.text("HOST").split(",", maxsplit=1)[0].strip()
        if host in _ANY_HOST:
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.text('PORT') or 18790}"

    @property
    def gateway_url(self) -> str:
        """The gateway of the run that is here, else the usual one."""
        run = find_run(self.secrets_file)
        return run.gateway_url if run else GATEWAY_URL

    @property
    def public_url(self) -> str:
        """Where people reach approval, as far as this shell knows."""
        known = self.text("APPROVAL_PUBLIC_URL")
        return "" if is_bare_scheme(known) else known.rstrip("/")

    @property
    def admin_token(self) -> str | None:
        """The operators' token. One that `make run` made goes to this machine alone."""
        if self.given_secrets_file is None and not is_this_machine(self.approval_url):
            return first_of(self.environ.get(ADMIN_TOKEN, ""))
        return self._secret(ADMIN_TOKEN)

    def gateway_token_for(self, url: str) -> str | None:
        """Return the token for a gateway. One that `make run` made goes to this machine alone."""
        if self.given_secrets_file is None and not is_this_machine(url):
            return first_of(self.environ.get(GATEWAY_TOKEN, ""))
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
