"""Checks as a client: origin, secret and proof; with a device of the user, pairing and scopes.

Without `--state`, the doctor never sends a device identity together with a correct secret, because
that would create a pairing request. It tries the secret without a device and the proof without a
secret.
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
"""Key for proofs sent without a secret, which never create a request, so it need not be secret.

It is constant, so that gateways of earlier releases, which list these checks, list one row.
"""
_SECRET_MISSING: Final = frozenset({"AUTH_TOKEN_MISSING", "AUTH_PASSWORD_MISSING"})
_PAIRING_BY_SECRET: Final = frozenset({"token", "password"})


async def try_origin(journey: Journey) -> None:
    """Connect as a page from an origin would, without a device, to check only the origin."""
    wished = journey.options.origin
    origin = wished or journey.origin
    profile = replace(CONTROL_UI, min_protocol=3, display_name=NAME)
    outcome = (await connect(journey, profile, None, origin=origin)).outcome
    if isinstance(outcome, Admitted) or outcome.detail_code == refusals.DEVICE_REQUIRED_OF_PAGES:
        journey.origin_allowed = not wished or wished == journey.origin
        journey.ok(f"pages from {origin} may connect")
        return
    wrong = refusals.wrong(journey, outcome)
    if outcome.detail_code == refusals.ORIGIN_REFUSED:
        found = f"pages from {origin} are refused"
        if wished:
            raise Wrong(wrong.cause, found, origin=origin)
        journey.warn(wrong.cause, found, origin=origin)
    elif outcome.error is None or wrong.cause is causes.PROTOCOL_MISMATCH:
        raise wrong
    else:
        journey.note(f"unknown: {outcome.message}")


async def authenticate(journey: Journey) -> None:
    """Check the secret; at Latchkey, together with the user's device if given."""
    if journey.state is None or journey.product.kind is Kind.OPENCLAW:
        await try_secret(journey)
    else:
        await _connect_as_device(journey, journey.state)


async def try_secret(journey: Journey) -> None:
    """Connect with the gateway's secret but without a device, which requests nothing."""
    secrets = shared_secrets(journey)
    if secrets is None:
        await _without_secret(journey)
        return
    outcome = (await connect(journey, PROBE, None, secrets)).outcome
    if isinstance(outcome, Admitted):
        _recognise(journey, outcome)
        method = str((outcome.hello.get("auth") or {}).get("method") or "token")
        journey.ok(f"the gateway {'password' if method == 'password' else 'token'} is correct")
        journey.step = "device"
        if journey.is_latchkey or method in _PAIRING_BY_SECRET:
            await _prove(journey)
        return
    if outcome.detail_code == refusals.DEVICE_REQUIRED:
        journey.note("not checked: this gateway accepts no secret from a client without a device")
        return
    raise refusals.wrong(journey, outcome)


async def _without_secret(journey: Journey) -> None:
    """Report a missing secret.

    Only Latchkey is tried with a device: an OpenClaw gateway that requires no secret would create
    a pairing request.
    """
    if journey.product.kind is Kind.OPENCLAW:
        if journey.state is None:
            raise Wrong(openclaw_causes.TOKEN_MISSING, "no gateway token was found")
        journey.note("not checked: no gateway token was found")
        return
    key = PROOF_KEY if journey.is_latchkey else None
    outcome = (await connect(journey, PROBE, key)).outcome
    if isinstance(outcome, Admitted):
        journey.note("this gateway accepts clients without a token")
    elif outcome.detail_code == refusals.DEVICE_REQUIRED:
        raise Wrong(causes.TOKEN_MISSING, "no gateway token was found")
    else:
        raise refusals.wrong(journey, outcome)


async def _prove(journey: Journey) -> None:
    """Connect with a device but no secret; if only the secret is refused, the proof is valid."""
    outcome = (await connect(journey, PROBE, PROOF_KEY)).outcome
    if isinstance(outcome, Refused) and outcome.detail_code not in _SECRET_MISSING:
        raise refusals.wrong(journey, outcome)
    journey.ok("a device's signature is accepted")


async def _connect_as_device(journey: Journey, state: DeviceState) -> None:
    """Connect as the device in the state file, with the gateway token, else its own token."""
    role = journey.options.role
    token = journey.config.gateway_token_for(journey.url)
    outcome = (
        await connect(journey, device_profile(journey), state.key, device_credentials(journey))
    ).outcome
    if isinstance(outcome, Admitted):
        _recognise(journey, outcome)
        keep_token(journey, outcome)
        method = (outcome.hello.get("auth") or {}).get("method")
        by_device = method == "device-token"
        journey.ok("the device token is correct" if by_device else "the token is correct")
        journey.step = "device"
        journey.ok(f"the signature of {state.key.device_id[:16]} is accepted")
        journey.step = "pairing"
        journey.ok(f"paired as {outcome.role or role}; protocol {outcome.protocol}")
        journey.step = "scopes"
        journey.ok(", ".join(outcome.scopes) or "none requested")
        return
    if outcome.detail_code == refusals.PAIRING_REQUIRED:
        journey.ok("the gateway token is correct" if token else "the device token is correct")
        journey.step = "device"
        journey.ok(f"the signature of {state.key.device_id[:16]} is accepted")
        journey.step = "pairing"
    raise refusals.wrong(journey, outcome)


def device_profile(journey: Journey) -> Profile:
    """Return the profile of the device in the state file, without the doctor's name."""
    role = journey.options.role
    mode = "node" if role == "node" else PROBE.mode
    profile = replace(PROBE, display_name=None, role=role, mode=mode)
    return profile.with_scopes(*journey.options.scopes)


def device_credentials(journey: Journey) -> Credentials:
    """Return the gateway's secret, else the device's token for this gateway."""
    secrets = shared_secrets(journey)
    if secrets is not None:
        return secrets
    state = journey.state
    return Credentials(
        device_token=state.token(journey.url, journey.options.role) if state else None
    )


def keep_token(journey: Journey, outcome: Admitted) -> None:
    """Save the issued device token to the state file."""
    state, file = journey.state, journey.options.state_file
    if state is not None and file and outcome.device_token:
        state.keep_token(journey.url, journey.options.role, outcome.device_token)
        state.save(file)


def _recognise(journey: Journey, outcome: Admitted) -> None:
    found = product.of_hello(outcome.hello)
    if found.kind is not Kind.UNKNOWN and not journey.is_latchkey:
        journey.product = found
    journey.hello = outcome.hello
