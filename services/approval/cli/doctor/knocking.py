"""As a device: origin, versions, secret, proof, pairing, scopes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from services.approval.cli import causes
from services.approval.cli.doctor.journey import NAME, Wrong
from services.approval.cli.doctor.opening import why_closed, why_no_socket
from services.approval.cli.words import length
from shared.device.client import DeviceClient
from shared.device.errors import BrokenPeerError, NoAnswerError, UnreachableError
from shared.device.handshake import Admitted, Credentials, Outcome, Refused
from shared.device.profile import CONTROL_UI, Profile
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.approval.cli.causes import Cause
    from services.approval.cli.doctor.journey import Journey
    from shared.device.identity import DeviceKey

LOCK_OUT_MS: Final = 300_000
_DEVICE_REQUIRED: Final = "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"
_ORIGIN_REFUSED: Final = "CONTROL_UI_ORIGIN_NOT_ALLOWED"
_BY_CODE: Final[Mapping[str, Cause]] = {
    "PROTOCOL_MISMATCH": causes.PROTOCOL_MISMATCH,
    _ORIGIN_REFUSED: causes.ORIGIN_REFUSED,
    _DEVICE_REQUIRED: causes.INSECURE_PAGE,
    "AUTH_TOKEN_MISSING": causes.TOKEN_MISSING,
    "AUTH_TOKEN_MISMATCH": causes.TOKEN_WRONG,
    "AUTH_RATE_LIMITED": causes.LOCKED_OUT,
    "AUTH_DEVICE_TOKEN_MISMATCH": causes.DEVICE_TOKEN_VOID,
    "AUTH_SCOPE_MISMATCH": causes.SCOPES_PENDING,
    "DEVICE_AUTH_SIGNATURE_EXPIRED": causes.SIGNATURE_STALE,
}
_BY_PAIRING: Final[Mapping[str, Cause]] = {
    "not-paired": causes.PAIRING_REQUIRED,
    "scope-upgrade": causes.SCOPES_PENDING,
    "role-upgrade": causes.ROLE_PENDING,
    "metadata-upgrade": causes.DETAILS_PENDING,
}
PROBE: Final = Profile(
    client_id="openclaw-probe",
    mode="probe",
    version=VERSION,
    display_name=NAME,
    min_protocol=3,
)
"""How the doctor introduces itself; it speaks both versions."""


async def try_origin(journey: Journey) -> None:
    """Come as a page of an origin would, without a device: only the origin is judged."""
    wished = journey.wishes.origin
    origin = wished or journey.origin
    outcome = await _outcome(journey, replace(CONTROL_UI, min_protocol=3), None, origin=origin)
    if isinstance(outcome, Refused) and outcome.detail_code == _ORIGIN_REFUSED:
        found = f"pages of {origin} are refused"
        if wished:
            raise Wrong(causes.ORIGIN_REFUSED, found, origin=origin)
        journey.warn(causes.ORIGIN_REFUSED, found, origin=origin)
    elif isinstance(outcome, Admitted) or outcome.detail_code == _DEVICE_REQUIRED:
        journey.ok(f"pages of {origin} may connect")
    elif outcome.error is None:
        raise _closed(outcome)
    elif outcome.detail_code == "PROTOCOL_MISMATCH":
        raise _refused(journey, outcome)
    else:
        journey.note(f"not known: {outcome.message}")


async def come_in(journey: Journey) -> None:
    """Come as a device, with the gateway token, else with the device token that is stored."""
    token = journey.surroundings.gateway_token
    role = journey.wishes.role
    stored = journey.state.token(journey.url, role) if journey.state else None
    credentials = Credentials(token=token) if token else Credentials(device_token=stored)
    name = None if journey.state else PROBE.display_name  # a device of its own keeps its own
    mode = "node" if role == "node" else PROBE.mode
    profile = replace(PROBE, display_name=name, role=role, mode=mode).asking(*journey.wishes.scopes)
    outcome = await _outcome(journey, profile, journey.key, credentials)
    if isinstance(outcome, Admitted):
        if journey.state is not None and journey.wishes.state_file and outcome.device_token:
            journey.state.keep_token(journey.url, role, outcome.device_token)
            journey.state.save(journey.wishes.state_file)
        _tell_admission(journey, outcome)
        return
    if outcome.error is None:
        raise _closed(outcome)
    if outcome.code == "UNAVAILABLE":
        raise _unavailable(outcome)
    if outcome.detail_code != "PAIRING_REQUIRED":
        raise _refused(journey, outcome)
    journey.ok("the gateway token is right" if token else "the device token is right")
    journey.step = "device"
    journey.ok(f"the proof of {journey.key.device_id[:16]} holds")
    journey.step = "pairing"
    _tell_pairing(journey, outcome)


def _tell_admission(journey: Journey, outcome: Admitted) -> None:
    method = (outcome.hello.get("auth") or {}).get("method")
    journey.ok("the device token is right" if method == "device-token" else "the token is right")
    journey.step = "device"
    journey.ok(f"the proof of {journey.key.device_id[:16]} holds")
    journey.step = "pairing"
    journey.ok(f"paired as {outcome.role or 'operator'}; protocol {outcome.protocol}")
    journey.step = "scopes"
    journey.ok(", ".join(outcome.scopes) or "none were asked for")


def _tell_pairing(journey: Journey, outcome: Refused) -> None:
    """Take waiting for a person as right for a key that was made for this walk."""
    if journey.state is not None or outcome.details.get("reason") != "not-paired":
        raise _refused(journey, outcome)
    journey.request_id = outcome.request_id
    journey.ok(
        f'asked to be paired as "{NAME}" and is told to wait for a person, as every new device is'
    )


def _closed(outcome: Refused) -> Wrong:
    return why_closed(outcome.close) if outcome.close else Wrong(causes.CUT, "no answer")


def _refused(journey: Journey, outcome: Refused) -> Wrong:
    code = outcome.detail_code
    if code == "PAIRING_REQUIRED":
        cause = _BY_PAIRING.get(str(outcome.details.get("reason")), causes.PAIRING_REQUIRED)
    elif code.startswith("DEVICE_AUTH_"):
        cause = _BY_CODE.get(code, causes.PROOF_REFUSED)
    else:
        cause = _BY_CODE.get(code, causes.NOT_A_GATEWAY)
    where = f" (connection {outcome.connection_id})" if outcome.connection_id else ""
    return Wrong(
        cause,
        f"{outcome.message}{where}",
        request_id=outcome.request_id or "REQUEST-ID",
        device_id=journey.key.device_id,
        origin=journey.wishes.origin or journey.origin,
        wait=length(outcome.retry_after_ms or LOCK_OUT_MS),
    )


def _unavailable(outcome: Refused) -> Wrong:
    reason = outcome.details.get("reason")
    if reason == "pending-limit":
        return Wrong(causes.PENDING_FULL, outcome.message)
    if outcome.details.get("dependency") == "redis":
        return Wrong(causes.REDIS_AWAY, outcome.message)
    if reason in {"no-responder", "no-lease"}:
        return Wrong(causes.APPROVAL_AWAY, outcome.message)
    return Wrong(causes.NO_ANSWER, outcome.message)


async def _outcome(
    journey: Journey,
    profile: Profile,
    key: DeviceKey | None,
    credentials: Credentials | None = None,
    *,
    origin: str | None = None,
) -> Outcome:
    """Connect and return what came of it; raises Wrong where nothing did."""
    try:
        async with DeviceClient(
            journey.url,
            key,
            profile,
            credentials=credentials,
            origin=origin,
            timeouts=journey.wishes.timeouts,
            session=journey.session,
        ) as device:
            return await device.connect()
    except UnreachableError as error:
        raise await why_no_socket(journey, error) from None
    except NoAnswerError as error:
        raise Wrong(causes.CUT, str(error)) from None
    except BrokenPeerError as error:
        raise Wrong(causes.NOT_A_GATEWAY, str(error)) from None


async def replica_of_a_stranger(journey: Journey) -> str:
    """Connect with nothing, be refused, and return which replica did so; raises Wrong."""
    outcome = await _outcome(journey, PROBE, None)
    if isinstance(outcome, Refused) and outcome.error is None:
        raise _closed(outcome)
    return outcome.connection_id.partition(":")[0]
