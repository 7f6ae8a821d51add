"""What the dashboard reads about its gateway before it connects (contract §13). Pure.

Nothing in it is secret, so nobody is checked: docs/decisions/0011-no-secret-no-check.md.
"""

from __future__ import annotations

from typing import Any, Final

UNAUTHORIZED: Final = {"error": {"message": "Unauthorized", "type": "unauthorized"}}


def configuration(version: str) -> dict[str, Any]:
    """Return the document: what this gateway has, in the dashboard's own words."""
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
    """Say whether an Authorization header brings any bearer token."""
    scheme, _, token = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and bool(token.strip())
