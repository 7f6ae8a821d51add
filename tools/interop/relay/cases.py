"""The cases in order, with their expected results."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from shared.upstream import PREAUTH_LIMIT
from tools.interop.cases import Case
from tools.interop.relay.mistakes import MISTAKES
from tools.interop.relay.scenario import RelayScenario

if TYPE_CHECKING:
    from tools.interop.facts import Facts
    from tools.interop.relay.mistakes import Mistake

Cases = tuple[Case[RelayScenario], ...]


async def _spoilt(mistake: Mistake, scenario: RelayScenario) -> Facts:
    return await scenario.spoilt(mistake)


RELAYED: Final[Cases] = (
    Case("opened with #token", RelayScenario.opened, ("Approve this browser", "names the request")),
    Case("approved over HTTP", RelayScenario.approved, ("HTTP 200", "Connected by itself")),
    Case("without the gateway token", RelayScenario.reloaded, ("Connected",)),
    Case(
        "its token over HTTP",
        RelayScenario.token_over_http,
        ("names its device", "HTTP 200", "HTTP 401", "HTTP 401"),
    ),
    Case("a script of the page", RelayScenario.assets, ("br", "kept for ever", "HTTP 304")),
    Case("what is not for everybody", RelayScenario.private, ("404 404 404 404",)),
    Case("its state", RelayScenario.state_told, ("2 gateways", "2026.9.6", "no problem")),
    Case(
        "token revoked over HTTP",
        RelayScenario.revoked,
        ("HTTP 200", "disconnected", "HTTP 401"),
    ),
    *(Case(item.name, partial(_spoilt, item), (item.found,)) for item in MISTAKES),
    Case("as many sockets as it takes", RelayScenario.crowded, (PREAUTH_LIMIT,)),
    Case("set right again", RelayScenario.mended, ("no problem",)),
)
