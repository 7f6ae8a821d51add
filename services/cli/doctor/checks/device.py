"""As a client: origin, secret, proof; and as a device of its own, pairing and scopes.

Unless it walks as a device of its own (`--state`), the doctor never sends a proven device together
with a right secret: that is what makes a pairing request. The secret is tried without a device, the
proof without a secret.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from services.cli.doctor import causes, openclaw_causes, product, refusals
from services.cli.doctor.checks.connections import PROBE, connect, shared_secrets
from services.cli.doctor.journey import NAME, Wrong
from services.cli.doctor.product import Kind
from shared.device.handshake import Admitted, Credentials, Refused
from shared.device.identity import DeviceKey
from shared.device.profile import CONTROL_UI

if TYPE_CHECKING:
    from services.cli.doctor.journey import Journey
    from shared.device.profile import Profile
    from shared.device.state import DeviceState

PROOF_KEY: Final = DeviceKey(hashlib.sha256(b"latchkey doctor").digest())
"""Proves a device where no secret is sent, so it never makes a request, and nobody has to keep it.

It is always the same, so that all runs are one row in lists of refused clients.
"""
_SECRET_MISSING: Final = frozenset({"AUTH_TOKEN_MISSING", "AUTH_PASSWORD_MISSING"})
_PAIRING_BY_SECRET: Final = frozenset({"token", "password"})


async def try_origin(journey: Journey) -> None:
    """Connect as a page of an origin would, without a device: only the origin is judged."""
    wished = journey.wishes.origin
    origin = wished or journey.origin
    profile = replace(CONTROL_UI, min_protocol=3, display_name=NAME)
    outcome = (await connect(journey, profile, None, origin=origin)).outcome
    if isinstance(outcome, Admitted) or outcome.detail_code == refusals.DEVICE_REQUIRED_OF_PAGES:
        journey.origin_allowed = not wished or wished == journey.origin
        journey.ok(f"pages of {origin} may connect")
        return
    wrong = refusals.wrong(journey, outcome)
    if outcome.detail_code == refusals.ORIGIN_REFUSED:
        found = f"pages of {origin} are refused"
        if wished:
            raise Wrong(wrong.cause, found, origin=origin)
        journey.warn(wrong.cause, found, origin=origin)
    elif outcome.error is None or wrong.cause is causes.PROTOCOL_MISMATCH:
        raise wrong
    else:
        journey.note(f"not known: {outcome.message}")


async def authenticate(journey: Journey) -> None:
    """Try the secret; at Latchkey, a device of the user's own with it."""
    if journey.state is None or journey.product.kind is Kind.OPENCLAW:
        await try_secret(journey)
    else:
        await _connect_as_device(journey, journey.state)


async def try_secret(journey: Journey) -> None:
    """Connect without a device, with the gateway's secret: nothing is asked for."""
    secrets = shared_secrets(journey)
    if secrets is None:
        await _without_secret(journey)
        return
    outcome = (await connect(journey, PROBE, None, secrets)).outcome
    if isinstance(outcome, Admitted):
        _recognise(journey, outcome)
        method = str((outcome.hello.get("auth") or {}).get("method") or "token")
        journey.ok(f"the gateway {'password' if method == 'password' else 'token'} is right")
        journey.step = "device"
        if journey.is_latchkey or method in _PAIRING_BY_SECRET:
            await _prove(journey)
        return
    if outcome.detail_code == refusals.DEVICE_REQUIRED:
        journey.note("not judged: this gateway takes no secret from a client without a device")
        return
    raise refusals.wrong(journey, outcome)


async def _without_secret(journey: Journey) -> None:
    """Say that the secret is missing; only to Latchkey a device may come without making a request.

    An OpenClaw gateway that wants no secret would make one.
    """
    if journey.product.kind is Kind.OPENCLAW:
        if journey.state is None:
            raise Wrong(openclaw_causes.TOKEN_MISSING, "no gateway token is at hand")
        journey.note("not judged: no gateway token is at hand")
        return
    key = PROOF_KEY if journey.is_latchkey else None
    outcome = (await connect(journey, PROBE, key)).outcome
    if isinstance(outcome, Admitted):
        journey.note("this gateway takes clients without a token")
    elif outcome.detail_code == refusals.DEVICE_REQUIRED:
        raise Wrong(causes.TOKEN_MISSING, "no gateway token is at hand")
    else:
        raise refusals.wrong(journey, outcome)


async def _prove(journey: Journey) -> None:
    """Connect with a proven device and no secret: refused for that alone, the proof holds."""
    outcome = (await connect(journey, PROBE, PROOF_KEY)).outcome
    if isinstance(outcome, Refused) and outcome.detail_code not in _SECRET_MISSING:
        raise refusals.wrong(journey, outcome)
    journey.ok("the proof of a device holds")


async def _connect_as_device(journey: Journey, state: DeviceState) -> None:
    """Connect as the device of the state file, with the gateway token, else with its own."""
    role = journey.wishes.role
    token = journey.surroundings.gateway_token_for(journey.url)
    outcome = (
        await connect(journey, device_profile(journey), state.key, device_credentials(journey))
    ).outcome
    if isinstance(outcome, Admitted):
        _recognise(journey, outcome)
        keep_token(journey, outcome)
        method = (outcome.hello.get("auth") or {}).get("method")
        by_device = method == "device-token"
        journey.ok("the device token is right" if by_device else "the token is right")
        journey.step = "device"
        journey.ok(f"the proof of {state.key.device_id[:16]} holds")
        journey.step = "pairing"
        journey.ok(f"paired as {outcome.role or role}; protocol {outcome.protocol}")
        journey.step = "scopes"
        journey.ok(", ".join(outcome.scopes) or "none were asked for")
        return
    if outcome.detail_code == refusals.PAIRING_REQUIRED:
        journey.ok("the gateway token is right" if token else "the device token is right")
        journey.step = "device"
        journey.ok(f"the proof of {state.key.device_id[:16]} holds")
        journey.step = "pairing"
    raise refusals.wrong(journey, outcome)


def device_profile(journey: Journey) -> Profile:
    """Return how the device of the state file introduces itself: under no name of the doctor's."""
    role = journey.wishes.role
    mode = "node" if role == "node" else PROBE.mode
    profile = replace(PROBE, display_name=None, role=role, mode=mode)
    return profile.asking(*journey.wishes.scopes)


def device_credentials(journey: Journey) -> Credentials:
    """Return the gateway's secret, else the token that the device has for this gateway."""
    secrets = shared_secrets(journey)
    if secrets is not None:
        return secrets
    state = journey.state
    return Credentials(
        device_token=state.token(journey.url, journey.wishes.role) if state else None
    )


def keep_token(journey: Journey, outcome: Admitted) -> None:
    """Keep the device token that was issued in the state file."""
    state, file = journey.state, journey.wishes.state_file
    if state is not None and file and outcome.device_token:
        state.keep_token(journey.url, journey.wishes.role, outcome.device_token)
        state.save(file)


def _recognise(journey: Journey, outcome: Admitted) -> None:
    found = product.of_hello(outcome.hello)
    if found.kind is not Kind.UNKNOWN and not journey.is_latchkey:
        journey.product = found
    journey.hello = outcome.hello
