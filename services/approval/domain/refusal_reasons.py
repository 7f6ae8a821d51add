"""Reasons for refusals: what each code means and what to do about it. Pure.

The codes equal those in the gateway's log and metrics. The HTTP API, the page and the command show
these texts. `cause` names the row of docs/reference/causes.md with details, if there is one.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Reason(NamedTuple):
    """A reason for refusals: its code, meaning, remedy and doctor cause."""

    code: str
    title: str
    remedy: str
    cause: str = ""


_REASONS: Final = (
    # Decisions of approval.
    Reason(
        "not-paired",
        "it waits for approval",
        "Approve or reject its request. Then let it connect again.",
        "pairing-required",
    ),
    Reason(
        "scope-upgrade",
        "it asks for more rights than were approved",
        "Review its request and approve or reject it, or let it ask for less.",
        "scopes-pending",
    ),
    Reason(
        "role-upgrade",
        "it asks for a role that is not approved, or whose token was revoked",
        "Review its request, and approve or reject it.",
        "role-pending",
    ),
    Reason(
        "metadata-upgrade",
        "it claims another platform than the one that was approved",
        "If you know why (a new system, for instance), approve its request. If not, its key may"
        " have been copied: remove the device.",
        "details-pending",
    ),
    Reason(
        "device-token-mismatch",
        "its device token is not valid",
        "The token was rotated or revoked, or the device was removed. Let it connect with the"
        " gateway token (`OPENCLAW_GATEWAY_TOKEN`) once: it gets a new device token, or asks for"
        " approval.",
        "device-token-void",
    ),
    Reason(
        "scope-mismatch",
        "it asks for more rights than its device token allows",
        "Let it ask for less, or let it connect with the gateway token, so that it requests the"
        " missing rights.",
    ),
    Reason(
        "key-mismatch",
        "its key is not the one on record for its id",
        "This should not happen. Check approval's log (`device.key-mismatch`), and remove the"
        " device if you cannot explain it.",
    ),
    # Secrets.
    Reason(
        "token-mismatch",
        "it sent a wrong gateway token",
        "Give it the first value of the gateways' `OPENCLAW_GATEWAY_TOKEN`, without quotes and"
        " blanks. If only some of its attempts fail, the gateways have different values.",
        "token-wrong",
    ),
    Reason(
        "token-missing",
        "it sent no token",
        "Give it the gateways' `OPENCLAW_GATEWAY_TOKEN`: in the dashboard's settings, as `--token`,"
        " or in its environment.",
        "token-missing",
    ),
    Reason(
        "bootstrap-token-invalid",
        "its setup code is not valid",
        "Give it the gateway token (`OPENCLAW_GATEWAY_TOKEN`), or a new setup code if you use"
        " those.",
    ),
    Reason(
        "rate-limited",
        "its address is locked out after too many wrong secrets",
        "Stop the clients that send wrong secrets, then wait five minutes or lift the lock-out"
        " (Manage Devices, or `latchkey lockouts lift ADDRESS`). If there is a proxy in front of"
        " the gateways, set `TRUSTED_PROXIES`; otherwise all clients count as one address.",
        "locked-out",
    ),
    # Device proof.
    Reason(
        "device-required",
        "it sent no device identity",
        "Use a client with a device key: without one, only operators with the gateway token may"
        " connect, and they have no rights.",
    ),
    Reason(
        "control-ui-device-required",
        "the dashboard sent no device identity",
        "Open the dashboard over https or on localhost: elsewhere browsers give pages no key.",
        "insecure-page",
    ),
    Reason(
        "device-id-mismatch",
        "the device id does not belong to its key",
        "Its key file is damaged or belongs to another device. Remove the client's stored device"
        " identity, so that it creates a new one, and approve that.",
        "proof-refused",
    ),
    Reason(
        "device-signature-stale",
        "the time in its signature is off by more than two minutes",
        "Correct the clocks of the client and the gateways; check for a proxy that delays frames.",
        "signature-stale",
    ),
    Reason(
        "device-nonce-missing",
        "its signature does not answer the gateway's challenge",
        "Update the client: it uses an older version of the protocol.",
        "proof-refused",
    ),
    Reason(
        "device-nonce-mismatch",
        "its signature answers the challenge of another connection",
        "Check for a proxy that changes or repeats frames. If there is none, someone may be"
        " replaying recorded frames.",
        "proof-refused",
    ),
    Reason(
        "device-signature",
        "its signature is not valid",
        "Its key file is damaged, or a proxy changes frames. Remove the client's stored device"
        " identity, so that it creates a new one, and approve that.",
        "proof-refused",
    ),
    # Invalid connect requests.
    Reason(
        "origin",
        "its page is not allowed to connect",
        "If it is your page, add its address to the gateways' `GATEWAY_ALLOWED_ORIGINS`, exactly as"
        " in the browser's address bar, and restart them.",
        "origin-refused",
    ),
    Reason(
        "protocol-mismatch",
        "it supports none of the gateways' protocol versions (3 and 4)",
        "Update the older of the two.",
        "protocol-mismatch",
    ),
    Reason(
        "upstream-protocol",
        "it speaks protocol 3, and the OpenClaw behind the gateways needs protocol 4",
        "Update the client.",
        "protocol-mismatch",
    ),
    Reason(
        "invalid-role",
        "it asks for a role that does not exist",
        "Roles are operator and node: correct the client's settings, or update it.",
    ),
    Reason(
        "worker",
        "it is a worker, which is not supported",
        "Connect workers to OpenClaw itself.",
    ),
    Reason(
        "invalid-params",
        "its request to connect is malformed",
        "Update the client. The details say what is wrong.",
    ),
    Reason(
        "not-connect",
        "its first request is not a request to connect",
        "Check that the client speaks OpenClaw's gateway protocol.",
    ),
    Reason(
        "invalid-frame",
        "its first frame is malformed",
        "Check that the client speaks OpenClaw's gateway protocol.",
    ),
    Reason(
        "not-json",
        "its first frame is not JSON",
        "Check that the client speaks OpenClaw's gateway protocol.",
    ),
    Reason(
        "too-big",
        "its first frame is too large",
        "Check that the client speaks OpenClaw's gateway protocol.",
    ),
    Reason(
        "too-many-frames",
        "it sends too much before it is admitted",
        "Update the client: it has to wait for the response to its request to connect.",
    ),
    # No decision was possible.
    Reason(
        "no-responder",
        "no approval service was available",
        "Approvals are kept. Start the approval service, check its `/readyz`, and give it the same"
        " `BUS_SECRET` and Redis as the gateways.",
        "approval-away",
    ),
    Reason(
        "timeout",
        "approval did not answer in time",
        "Clients retry by themselves. If it happens often, check `latchkey_gateway_beat_seconds`"
        " and Redis, or add an approval replica.",
        "no-answer",
    ),
    Reason(
        "overloaded",
        "too many clients connected at once",
        "Clients retry by themselves. If it happens often, add gateway and approval replicas.",
        "no-answer",
    ),
    Reason(
        "redis",
        "the gateway could not reach Redis",
        "Approvals are kept. Check that Redis is running, and the gateways' `REDIS_URL`.",
        "redis-away",
    ),
    Reason(
        "no-lease",
        "the gateway had lost its connection to approval",
        "Approvals are kept. Check `/readyz` of that gateway and of approval.",
        "not-ready",
    ),
    Reason(
        "upstream",
        "the gateway could not connect it to OpenClaw",
        "Clients retry by themselves. If it lasts, run `latchkey upstream check`.",
        "upstream-unreachable",
    ),
    Reason(
        "pending-limit",
        "too many requests are pending, so its own could not be stored",
        "Approve or reject pending requests, or raise `PENDING_LIMIT` and"
        " `PENDING_LIMIT_PER_ADDRESS`.",
        "pending-full",
    ),
)

REASONS: Final = {one.code: one for one in _REASONS}

_UNKNOWN_REFUSED: Final = Reason(
    "",
    "for a reason that this release does not know",
    "Search the gateways' log for the reason's code. Use the same release everywhere.",
)
_UNKNOWN_UNDECIDED: Final = _UNKNOWN_REFUSED._replace(title="a service was not available")


def reason_of(code: str, *, undecided: bool) -> Reason:
    """Return the reason for a code; a gateway of another release may send unknown ones."""
    known = REASONS.get(code)
    if known is not None:
        return known
    return (_UNKNOWN_UNDECIDED if undecided else _UNKNOWN_REFUSED)._replace(code=code)
