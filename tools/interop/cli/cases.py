"""The cases in order, and their expected facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tools.interop.cases import Case
from tools.interop.cli.scenario import CliScenario

Cases = tuple[Case[CliScenario], ...]

_CLOSED: Final = "closed 4001 device removed"
_NO_SCOPE: Final = ("exit 1", "missing scope: operator.pairing")

# Cases that are the same for both protocols and locations.
_LIST: Final = Case(
    "list",
    CliScenario.listed,
    ("exit 0", "names the request", "waiting as over HTTP", "paired as over HTTP"),
)
_NONE: Final = Case(
    "approve --latest, of none",
    CliScenario.nothing_to_approve,
    ("exit 1", "No pending device pairing requests to approve"),
)
_APPROVE: Final = Case(
    "approve ID", CliScenario.approved, ("exit 0", "its ids", "its device comes in")
)
_REJECT: Final = Case(
    "reject ID",
    CliScenario.rejected,
    ("exit 0", "its ids", "another request when it asks again"),
)
_ROTATE: Final = Case(
    "rotate, its device live",
    CliScenario.rotated,
    ("exit 0", "token withheld", _CLOSED, "comes in again"),
)
_REVOKE: Final = Case(
    "revoke, its device live", CliScenario.revoked, ("exit 0", "time", _CLOSED, "it waits")
)
_REMOVE: Final = Case(
    "remove, its device live",
    CliScenario.removed,
    ("exit 0", "its id", _CLOSED, "unknown when it asks again"),
)
_CLEAR: Final = Case(
    "clear --yes", CliScenario.cleared, ("exit 0", "what there was", "nothing paired")
)
_CLEAR_ALL: Final = Case(
    "clear --yes --pending",
    CliScenario.cleared_with_pending,
    ("exit 0", "what there was", "nothing paired", "nothing waits"),
)

_MANAGE: Final = (_REJECT, _ROTATE, _REVOKE, _REMOVE)


def _unknown(reason: str) -> Case[CliScenario]:
    return Case("approve, unknown ID", CliScenario.unknown, ("exit 1", reason))


_NO_MATCH: Final = (
    "No pending device request matches 00000000-0000-4000-8000-000000000000. Run openclaw devices "
    "list and retry with the current request ID."
)

# Protocol 4: requests only what a command needs, shows a request before approving it, renames.
_COMMANDS_4: Final = (
    _LIST,
    Case(
        "approve --latest",
        CliScenario.latest_shown,
        ("exit 1", "shows it and the command", "it waits"),
    ),
    _APPROVE,
    Case("rename", CliScenario.renamed, ("exit 0", "id and label", "named over HTTP too")),
    *_MANAGE,
)
LOCAL_4: Final[Cases] = (_NONE, *_COMMANDS_4, _unknown(_NO_MATCH), _CLEAR_ALL)
REMOTE_4: Final[Cases] = (
    Case("list, no device yet", CliScenario.without_identity, _NO_SCOPE),
    Case(
        "cron list makes a device",
        CliScenario.asked,
        (
            "exit 1",
            "device pairing required (requestId: ID)",
            "asks for operator.read",
            "HTTP 200",
        ),
    ),
    # It is admitted. Only an admin learns what the gateway does not support.
    Case("cron list, paired", CliScenario.schedule, ("exit 1", "missing scope: operator.admin")),
    Case(
        "list needs a scope more",
        CliScenario.asked_for_more,
        (
            "exit 1",
            "scope upgrade pending approval (requestId: ID)",
            "asks for operator.pairing",
            "HTTP 200",
        ),
    ),
    _NONE,
    *_COMMANDS_4,
    _unknown(
        "This device can't approve its own scope upgrade. Approve it from the Control UI or another "
        "authorized device."
    ),
    _CLEAR,
    Case(
        "list, its own device removed",
        CliScenario.unknown_again,
        ("exit 1", "device pairing required (requestId: ID)"),
    ),
)

# Protocol 3: always uses a device and requests all scopes, approves directly.
_COMMANDS_3: Final = (
    _NONE,
    _LIST,
    _APPROVE,
    Case(
        "approve --latest",
        CliScenario.latest_approved,
        ("exit 0", "its ids", "its device comes in"),
    ),
    *_MANAGE,
    _unknown("[openclaw] Failed to start CLI: GatewayClientRequestError: unknown requestId"),
)
LOCAL_3: Final[Cases] = (
    *_COMMANDS_3,
    # Each of its connections registers the device again, even the one after its own removal.
    replace(_CLEAR_ALL, expected=("exit 0", "what there was", "left: cli silent", "nothing waits")),
)
REMOTE_3: Final[Cases] = (
    Case(
        "list makes a device",
        CliScenario.asked_for_more,
        (
            "exit 1",
            "[openclaw] Failed to start CLI: Error: gateway closed (1008): pairing required",
            (
                "asks for operator.admin operator.read operator.write operator.approvals "
                "operator.pairing"
            ),
            "HTTP 200",
        ),
    ),
    *_COMMANDS_3,
    _CLEAR,
    Case(
        "list, its own device removed",
        CliScenario.unknown_again,
        (
            "exit 1",
            "[openclaw] Failed to start CLI: Error: gateway closed (1008): pairing required",
        ),
    ),
)
