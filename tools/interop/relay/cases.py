"""The cases in order, and what is expected of each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from shared.upstream import PREAUTH_LIMIT
from tools.interop.cases import Case
from tools.interop.relay.mistakes import MISTAKES
from tools.interop.relay.scenario import RelayStory

if TYPE_CHECKING:
    from tools.interop.facts import Facts
    from tools.interop.relay.mistakes import Mistake

Cases = tuple[Case[RelayStory], ...]


async def _spoilt(mistake: Mistake, story: RelayStory) -> Facts:
    return await story.spoilt(mistake)


RELAYED: Final[Cases] = (
    Case("opened with #token", RelayStory.opened, ("Approve this browser", "names the request")),
    Case("approved over HTTP", RelayStory.approved, ("HTTP 200", "Connected by itself")),
    Case("without the gateway token", RelayStory.reloaded, ("Connected",)),
    Case(
        "its token over HTTP",
        RelayStory.token_over_http,
        ("names its device", "HTTP 200", "HTTP 401", "HTTP 401"),
    ),
    Case("a script of the page", RelayStory.assets, ("br", "kept for ever", "HTTP 304")),
    Case("what is not for everybody", RelayStory.private, ("404 404 404 404",)),
    Case("its state", RelayStory.state_told, ("2 gateways", "2026.9.6", "no problem")),
    Case(
        "token revoked over HTTP",
        RelayStory.revoked,
        ("HTTP 200", "disconnected", "HTTP 401"),
    ),
    *(Case(item.name, partial(_spoilt, item), (item.found,)) for item in MISTAKES),
    Case("as many sockets as it takes", RelayStory.crowded, (PREAUTH_LIMIT,)),
    Case("set right again", RelayStory.mended, ("no problem",)),
)
