"""Connect to a plain OpenClaw gateway several times as one device, to compare device lists.

This creates a pairing request, which expires. It runs only with `--pairing-probe`, or as the
user's device with `--state`. OpenClaw pairs local clients silently, except for browser pages other
than its dashboard, so the device sends an Origin.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from services.cli.doctor import openclaw_causes, refusals
from services.cli.doctor.checks.connections import PROBE, connect, shared_secrets
from services.cli.doctor.checks.device import device_credentials, device_profile, keep_token
from services.cli.doctor.checks.network import is_this_machine
from services.cli.doctor.journey import NAME, Wrong
from shared.device.client import DeviceClient
from shared.device.errors import DeviceClientError
from shared.device.handshake import Admitted
from shared.device.profile import CLI

if TYPE_CHECKING:
    from services.cli.doctor.journey import Journey
    from shared.device.profile import Profile

REQUEST_MINUTES: Final = 5
"""How long OpenClaw keeps a request."""
_PAIRING: Final = "operator.pairing"
_LOCAL_NAMES: Final = (".local", ".internal", ".ts.net", ".lan")


async def ask_to_pair(journey: Journey) -> None:
    """Connect repeatedly as the same device, and compare the answers."""
    own = journey.state is None
    if own and not journey.options.pairing_probe:
        return
    origin = journey.origin if journey.origin_allowed else None
    if own and origin is None and not is_public(journey.host):
        journey.note("not tried: without an allowed origin OpenClaw might pair the doctor silently")
        return
    if own:
        journey.note(
            f'requesting pairing as "{NAME}", without scopes; the request is listed by `openclaw'
            f" devices list` for up to {REQUEST_MINUTES} minutes"
        )
    answers = _Answers()
    for _ in range(journey.options.connections):
        await _ask_once(journey, answers, origin)
    if own:
        await _withdraw(journey, list(answers.requests))
        if answers.admitted:
            remove = f"openclaw devices remove {journey.key.device_id}"
            journey.note(f"OpenClaw paired the doctor silently; remove it with `{remove}`")
    found = answers.differ()
    if found:
        raise Wrong(openclaw_causes.SEPARATE_LISTS, found)
    if own:
        journey.ok("every connection got the same request id: there is one device list")
    else:
        _report_device(journey, answers)


@dataclass(slots=True)
class _Answers:
    """The answers that one device got."""

    requests: Counter[str] = field(default_factory=Counter)
    admitted: int = 0
    unknown: int = 0
    """Connections that refused the device's own token."""

    def differ(self) -> str:
        """Describe how the answers reveal several device lists; empty if they do not."""
        refused = self.requests.total() + self.unknown
        if self.admitted and refused:
            return (
                f"the same device was admitted by {self.admitted} connections and refused by"
                f" {refused}"
            )
        if len(self.requests) > 1:
            return f"the same device got {len(self.requests)} request ids: " + ", ".join(
                self.requests
            )
        return ""


async def _ask_once(journey: Journey, answers: _Answers, origin: str | None) -> None:
    """Connect as the device with an Origin, so that it is never paired silently."""
    own = journey.state is None
    profile = PROBE if own else device_profile(journey)
    secrets = shared_secrets(journey) if own else device_credentials(journey)
    outcome = (await connect(journey, profile, journey.key, secrets, origin=origin)).outcome
    if isinstance(outcome, Admitted):
        answers.admitted += 1
        keep_token(journey, outcome)
    elif outcome.detail_code == refusals.PAIRING_REQUIRED and _is_new(outcome.details):
        answers.requests[outcome.request_id] += 1
    elif outcome.detail_code == refusals.DEVICE_TOKEN_REFUSED:
        answers.unknown += 1
    else:
        raise refusals.wrong(journey, outcome)


def _is_new(details: object) -> bool:
    return isinstance(details, dict) and details.get("reason") in {"not-paired", None}


def _report_device(journey: Journey, answers: _Answers) -> None:
    """Report the status of the user's device in the single list."""
    state = journey.state
    if not answers.requests and not answers.unknown:
        journey.ok(f"paired as {journey.options.role}")
        return
    known = state is not None and state.token(journey.url, journey.options.role) is not None
    request_id = next(iter(answers.requests), "REQUEST-ID")
    if known:
        found = "this device has a token for this gateway but is not paired with it"
        raise Wrong(openclaw_causes.DEVICE_FORGOTTEN, found, request_id=request_id)
    found = f"this device is not approved yet (request {request_id})"
    raise Wrong(openclaw_causes.PAIRING_REQUIRED, found, request_id=request_id)


async def _withdraw(journey: Journey, request_ids: list[str]) -> None:
    """Reject the doctor's own requests, which OpenClaw allows only on its own machine."""
    left = set(request_ids)
    if left and is_this_machine(journey.host):
        profile = replace(CLI, min_protocol=3, display_name=NAME).with_scopes(_PAIRING)
        for _ in range(2 * journey.options.connections):
            if not left:
                break
            left -= await _reject(journey, profile, left)
    if left:
        journey.note(
            f"it cannot be withdrawn from here; it expires within {REQUEST_MINUTES} minutes"
        )
    elif request_ids:
        journey.ok("the request was withdrawn")


async def _reject(journey: Journey, profile: Profile, request_ids: set[str]) -> set[str]:
    """Reject those requests that the answering process has; return their ids."""
    try:
        async with DeviceClient(
            journey.url,
            None,
            profile,
            credentials=shared_secrets(journey),
            timeouts=journey.options.timeouts,
            session=journey.session,
        ) as client:
            outcome = await client.connect()
            if not isinstance(outcome, Admitted) or _PAIRING not in outcome.scopes:
                return set()
            params = ({"requestId": id_} for id_ in request_ids)
            return {
                param["requestId"]
                for param in params
                if (await client.call("device.pair.reject", param)).ok
            }
    except DeviceClientError:
        return set()


def is_public(host: str) -> bool:
    """Return whether OpenClaw treats clients that use this host name as remote."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.lower().endswith(_LOCAL_NAMES)
