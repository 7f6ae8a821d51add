"""Named operators of tests: created over the API, and what they send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator, Reply


async def create(
    admin: Operator, name: str, permission: str = "view", **more: Any
) -> dict[str, str]:
    """Create an operator; return the headers with its token."""
    body = {"name": name, "permission": permission, **more}
    created = (await admin.post("/v1/operators", body)).ok()
    assert created["operator"]["name"] == name
    return {"Authorization": f"Bearer {created['token']}"}


async def revoke(admin: Operator, name: str) -> Reply:
    """Revoke an operator."""
    return await admin.call("DELETE", f"/v1/operators/{name}")
