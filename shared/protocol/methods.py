"""The methods that clients may call after hello, with roles, scopes and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.protocol.limits import LABEL_LIMIT_CHARACTERS, PROTOCOLS
from shared.protocol.schema import Constant, Flag, Items, Object, Text
from shared.protocol.scopes import ADMIN, PAIRING, READ

if TYPE_CHECKING:
    from collections.abc import Mapping

OPERATOR: Final = frozenset({"operator"})
EVERYBODY: Final = frozenset({"operator", "node"})


@dataclass(frozen=True, slots=True)
class Method:
    """Which roles, scope and protocol versions a method requires.

    `params` is the schema of its parameters; None if they are not checked. `advertised`: hello-ok
    lists it.
    """

    roles: frozenset[str] = OPERATOR
    scope: str | None = PAIRING
    params: Object | None = None
    protocols: tuple[int, ...] = PROTOCOLS
    advertised: bool = True


SETUP_CODE: Final = "device.pair.setupCode"
SETUP_STATUS: Final = "device.pair.setupStatus"
SETUP_ID_LIMIT_CHARACTERS: Final = 128


def _takes(*names: str, **optional: Items) -> Object:
    return Object({name: Text() for name in names}, optional, closed=True)


METHODS: Final[Mapping[str, Method]] = {
    "health": Method(roles=EVERYBODY, scope=None),
    "status": Method(scope=READ, params=_takes()),
    "system-presence": Method(scope=READ, params=_takes()),
    "node.list": Method(scope=READ, params=_takes()),
    "node.describe": Method(scope=READ, params=_takes("nodeId")),
    "device.pair.list": Method(params=_takes()),
    "device.pair.approve": Method(params=_takes("requestId")),
    "device.pair.reject": Method(params=_takes("requestId")),
    "device.pair.remove": Method(params=_takes("deviceId")),
    "device.pair.rename": Method(
        params=Object(
            {"deviceId": Text(), "label": Text(most=LABEL_LIMIT_CHARACTERS)}, {}, closed=True
        ),
        protocols=(4,),
    ),
    SETUP_CODE: Method(
        scope=ADMIN,
        params=Object(
            {},
            {
                "publicUrl": Text(),
                "preferRemoteUrl": Flag(),
                "includeQr": Flag(),
                "bootstrapProfile": Text(allowed=("limited", "node", "voice-node")),
                "joinUrl": Constant(value=True),
            },
            closed=True,
        ),
        protocols=(4,),
        advertised=False,
    ),
    SETUP_STATUS: Method(
        scope=ADMIN,
        params=Object({"setupId": Text(most=SETUP_ID_LIMIT_CHARACTERS)}, {}, closed=True),
        protocols=(4,),
        advertised=False,
    ),
    "device.token.rotate": Method(params=_takes("deviceId", "role", scopes=Items(Text()))),
    "device.token.revoke": Method(params=_takes("deviceId", "role")),
}
"""All supported methods; any other name is unknown."""


def advertised(protocol: int) -> list[str]:
    """Return the methods that hello-ok lists in a protocol version."""
    return [name for name, one in METHODS.items() if one.advertised and protocol in one.protocols]
