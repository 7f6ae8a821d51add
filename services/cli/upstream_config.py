"""The configuration of an OpenClaw gateway behind Latchkey, ready to paste. Pure."""

from __future__ import annotations

import json
import re
import shlex
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

from shared import upstream as known

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND_SCOPES: Final = (
    "operator.read",
    "operator.write",
    "operator.approvals",
    "operator.pairing",
    "operator.admin",
)
"""Maximum scopes of command lines without a device; gateways narrow them on each connection."""
_BARE_KEY: Final = re.compile(r"[A-Za-z_$][\w$]*")


def upstream_config(
    secret: str, *, origins: Sequence[str], replicas: Sequence[str], password: str
) -> dict[str, Any]:
    """Return the settings for openclaw.json. `replicas` are the gateways' addresses, as CIDRs.

    If all of them are on OpenClaw's machine, it listens on loopback only.
    """
    names = known.header_names(secret)
    here = [ip_network(one).is_loopback for one in replicas]
    return {
        "gateway": {
            "mode": "local",
            "bind": "loopback" if all(here) else "lan",
            "trustedProxies": list(replicas),
            "auth": {
                "mode": "trusted-proxy",
                "password": password,
                "identityScopes": {
                    known.RELAY_USER: list(known.RELAY_SCOPES),
                    known.COMMAND_USER: list(COMMAND_SCOPES),
                },
                "trustedProxy": {
                    "userHeader": names.user,
                    "requiredHeaders": [names.required],
                    "allowUsers": [known.CLIENT_USER, known.RELAY_USER, known.COMMAND_USER],
                    "allowLoopback": any(here),
                    "deviceAutoApprove": {"enabled": False},
                },
            },
            "nodes": {"pairing": {"autoApproveLocal": False}},
            "controlUi": {"enabled": True, "allowedOrigins": list(origins)},
        }
    }


def as_json5(config: dict[str, Any]) -> str:
    """Return it as JSON5, with quotes only where keys need them."""
    return "\n".join(_json5(config, ""))


def as_commands(config: dict[str, Any]) -> list[str]:
    """Return the `openclaw config set` commands that set the same, one value each."""
    return [
        f"openclaw config set {path} {shlex.quote(json.dumps(value))}"
        for path, value in _values(config, "")
    ]


def preauth_limit(gateways: int) -> int:
    """Return the value for OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP; 0: its default is enough."""
    needed = gateways * known.UNADMITTED_LIMIT_PER_ADDRESS
    return 2 * needed if needed >= known.UPSTREAM_PREAUTH_LIMIT else 0


def _json5(value: Any, indent: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield json.dumps(value)
        return
    yield "{"
    for name, inner in value.items():
        key = name if _BARE_KEY.fullmatch(name) else json.dumps(name)
        first, *rest = _json5(inner, f"{indent}  ")
        lines = [f"{indent}  {key}: {first}", *rest]
        lines[-1] += ","
        yield from lines
    yield f"{indent}}}"


def _values(config: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield each value with its path; a table whose keys are no plain names is one value."""
    for name, value in config.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, dict) and all(map(_BARE_KEY.fullmatch, value)):
            yield from _values(value, inner)
        else:
            yield inner, value
