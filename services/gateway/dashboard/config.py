"""The configuration that the dashboard fetches before it connects. Pure.

It contains no secret, so requests are not authenticated; see
docs/decisions/0011-no-secret-no-check.md.
"""

from __future__ import annotations

from typing import Any, Final

UNAUTHORIZED: Final = {"error": {"message": "Unauthorized", "type": "unauthorized"}}


def configuration(version: str) -> dict[str, Any]:
    """Return the configuration document, with the field names that the dashboard expects."""
    return {
        "basePath": "",
        "assistantName": "Assistant",
        "assistantAvatar": "A",
        "assistantAgentId": "main",
        "serverVersion": version,
        "embedSandbox": "strict",
        "allowExternalEmbedUrls": False,
        "automaticallyFetchFavicons": False,
        "communityInvite": False,
        "terminalEnabled": False,
        "cliAgentsEnabled": False,
    }


def names_a_bearer(authorization: str) -> bool:
    """Return whether an Authorization header has a bearer token, whatever its value."""
    scheme, _, token = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and bool(token.strip())
