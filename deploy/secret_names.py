"""Names of the secrets that a deployment needs.

Imports nothing, so that `make secrets` runs without a virtual environment.
"""

from __future__ import annotations

from typing import Final

ADMIN_TOKEN: Final = "APPROVAL_ADMIN_TOKEN"  # noqa: S105  the name of a setting
GATEWAY_TOKEN: Final = "OPENCLAW_GATEWAY_TOKEN"  # noqa: S105  the name of a setting
GATEWAY_PASSWORD: Final = "REDIS_GATEWAY_PASSWORD"  # noqa: S105  the name of a setting
APPROVAL_PASSWORD: Final = "REDIS_APPROVAL_PASSWORD"  # noqa: S105  the name of a setting
PASSWORDS: Final = (GATEWAY_PASSWORD, APPROVAL_PASSWORD)
SECRETS: Final = (
    GATEWAY_TOKEN,
    ADMIN_TOKEN,
    "BUS_SECRET",
    "TOKEN_SECRET",
    "UPSTREAM_SECRET",
    *PASSWORDS,
)
