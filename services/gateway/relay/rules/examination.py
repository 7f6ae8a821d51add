"""Finds mistakes in the upstream's configuration from its responses. Pure.

Each finding is one of shared.upstream.PROBLEMS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shared import upstream as known

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from shared.upstream import HeaderNames

_BY_REASON: Final = {
    "trusted_proxy_user_missing": known.HEADERS,
    "trusted_proxy_user_not_allowed": known.ALLOW_USERS,
    "trusted_proxy_loopback_source": known.LOOPBACK,
    "trusted_proxy_local_interface_source": known.LOOPBACK,
    "trusted_proxy_untrusted_source": known.PROXY_NOT_TRUSTED,
}
_MISSING_HEADER: Final = "trusted_proxy_missing_header"
_OTHER_MODES: Final = ("token_", "password_")
_FORBIDDEN: Final = 403
_UNAVAILABLE: Final = 503
_ANY: Final = "*"


def problem_of_upgrade(status: int) -> str:
    """Return the problem behind an HTTP status that refuses a WebSocket."""
    if status == _FORBIDDEN:
        return known.PROXY_NOT_TRUSTED
    return known.PREAUTH_LIMIT if status == _UNAVAILABLE else known.NO_OPENCLAW


def problem_of_refusal(error: object) -> str:
    """Return the problem behind a refusal of this gateway's own `connect`."""
    details = error.get("details") if isinstance(error, dict) else None
    reason = str(details.get("authReason", "")) if isinstance(details, dict) else ""
    if reason.startswith(_MISSING_HEADER):
        return known.HEADERS
    if reason.startswith(_OTHER_MODES):
        return known.AUTH_MODE
    return _BY_REASON.get(reason, known.REFUSES)


def problems_of_config(
    config: Any, names: Collection[HeaderNames], origins: Iterable[str]
) -> list[str]:
    """Return the problems in the configuration that the upstream reports.

    `origins` are those of the pages that the gateway lets connect, as far as they are listed.
    """
    gateway = _table(config, "gateway")
    auth = _table(gateway, "auth")
    proxy = _table(auth, "trustedProxy")
    found = []
    if auth.get("mode") != "trusted-proxy":
        found.append(known.AUTH_MODE)
    if auth.get("token"):
        found.append(known.OWN_TOKEN)
    required = {str(one).lower() for one in _items(proxy, "requiredHeaders")}
    if not any(
        one.user == str(proxy.get("userHeader", "")).lower() and one.required in required
        for one in names
    ):
        found.append(known.HEADERS)
    users = set(map(str, _items(proxy, "allowUsers")))
    if users != {known.CLIENT_USER, known.RELAY_USER, known.COMMAND_USER}:
        found.append(known.ALLOW_USERS)
    scopes = _table(auth, "identityScopes")
    if not set(known.RELAY_SCOPES) <= set(map(str, _items(scopes, known.RELAY_USER))):
        found.append(known.RELAY_RIGHTS)
    if scopes.get(known.CLIENT_USER):
        found.append(known.CLIENT_RIGHTS)
    approves_browsers = _table(proxy, "deviceAutoApprove").get("enabled") is True
    nodes = _table(_table(gateway, "nodes"), "pairing")
    if approves_browsers or nodes.get("autoApproveLocal") is not False:
        found.append(known.AUTO_APPROVES)
    allowed = {str(one).lower() for one in _items(_table(gateway, "controlUi"), "allowedOrigins")}
    if _ANY not in allowed and not set(origins) - {_ANY} <= allowed:
        found.append(known.ORIGINS)
    return found


def _table(parent: Any, name: str) -> dict[str, Any]:
    found = parent.get(name) if isinstance(parent, dict) else None
    return found if isinstance(found, dict) else {}


def _items(parent: dict[str, Any], name: str) -> list[Any]:
    found = parent.get(name)
    return found if isinstance(found, list) else []
