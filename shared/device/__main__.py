"""Connect a device by hand: `python -m shared.device ws://127.0.0.1:18789`.

Exit code: 0 admitted, 1 refused, 2 no gateway reached (or a wrong argument).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from shared import calling, running
from shared.addresses.typed import AddressError, approval_address, gateway_address, is_this_machine
from shared.device import report
from shared.device.client import DeviceClient
from shared.device.errors import DeviceClientError
from shared.device.handshake import Admitted, Credentials
from shared.device.profile import PROFILES
from shared.device.state import StateError, first_of, load, secret_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.device.handshake import Refused
    from shared.device.profile import Profile
    from shared.device.state import DeviceState
    from shared.running import Running

ADMITTED: Final = 0
REFUSED: Final = 1
UNREACHABLE: Final = 2
INTERRUPTED: Final = 130

RETRIES: Final = 5
"""How often it tries again by itself while the gateway is connecting it to OpenClaw."""
RETRY_MS: Final = 500
"""Delay before that if the gateway names none."""

DEFAULT_URL: Final = "ws://127.0.0.1:18789"
DEFAULT_APPROVAL_URL: Final = "http://127.0.0.1:18790"
APPROVAL_URL_NAME: Final = "APPROVAL_URL"
TOKEN_NAME: Final = "OPENCLAW_GATEWAY_TOKEN"  # noqa: S105 (the name of a setting)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = read_arguments(arguments)
    try:
        state = load(given.state)
        return asyncio.run(_connect(given, state))
    except StateError as error:
        sys.stderr.write(f"{report.printable(str(error))}\n")
        return UNREACHABLE
    except KeyboardInterrupt:
        return INTERRUPTED


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; defaults come from the run on this machine."""
    given = _parser().parse_args(arguments)
    given.default_secrets = running.default_secrets_file(os.environ)
    given.secrets = given.secrets or given.default_secrets
    given.run = running.find_run(given.secrets)
    given.url = given.url or (given.run.gateway_url if given.run else DEFAULT_URL)
    return given


async def _connect(given: argparse.Namespace, state: DeviceState) -> int:
    profile = _profile(given)
    role = profile.role or "operator"
    credentials, offered = _credentials(given, state, role)
    origin = (
        given.origin or _own_origin(given.url) if given.profile == "control-ui" else given.origin
    )
    rows = [
        ("gateway", given.url),
        ("device", state.key.device_id),
        ("", f"fingerprint {report.fingerprint(state.key.device_id)}"),
        ("key", f"{given.state}"),
        ("offered", offered),
        ("origin", origin or ""),
    ]
    retries = 0
    while True:
        client = DeviceClient(given.url, state.key, profile, credentials=credentials, origin=origin)
        outcome = await _attempt(client, given, state, role, rows)
        if isinstance(outcome, int):
            return outcome
        if outcome.details.get("reason") != report.STARTING or retries == RETRIES:
            break
        retries += 1
        await asyncio.sleep((outcome.retry_after_ms or RETRY_MS) / 1000)
    if outcome.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH":
        state.keep_token(given.url, role, "")
        state.save(given.state)
    _write(report.refused(outcome, rows, approval_of(given, outcome)))
    return REFUSED


async def _attempt(
    client: DeviceClient,
    given: argparse.Namespace,
    state: DeviceState,
    role: str,
    rows: Sequence[tuple[str, str]],
) -> int | Refused:
    """Connect, and hold the connection if asked to; return the exit code or the refusal."""
    async with client as device:
        try:
            outcome = await device.connect()
        except DeviceClientError as error:
            _write(report.unreachable(error, rows))
            return UNREACHABLE
        if not isinstance(outcome, Admitted):
            return outcome
        if outcome.device_token:
            state.keep_token(given.url, role, outcome.device_token)
            state.save(given.state)
        _write(report.admitted(outcome, rows))
        if given.hold:
            await _hold(device)
    return ADMITTED


async def _hold(device: DeviceClient) -> None:
    _write("\nHolding the connection; Ctrl-C ends it.\n")
    began = time.monotonic()
    try:
        close = await device.closed()
    except asyncio.CancelledError:  # Ctrl-C is the normal way to end, so it is no failure
        _write(f"\nClosed by Ctrl-C after {time.monotonic() - began:.1f} s.\n")
        return
    _write("\n" + report.ended(close, time.monotonic() - began))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _profile(given: argparse.Namespace) -> Profile:
    profile = PROFILES[given.profile, given.protocol]
    if given.scope:
        profile = profile.with_scopes(*given.scope)
    if given.name:
        profile = replace(profile, display_name=given.name)
    return profile


def _credentials(
    given: argparse.Namespace, state: DeviceState, role: str
) -> tuple[Credentials, str]:
    """Return the credentials and their description: the gateway token, else a device token."""
    if not given.device_token:
        name = given.token_env
        token = first_of(os.environ.get(name, ""))
        if token is not None:
            return Credentials(token=token), f"the gateway token in {name}"
        token = secret_from(given.secrets, name)
        if token is not None:
            return Credentials(token=token), f"the gateway token in {given.secrets}"
    stored = state.token(given.url, role)
    if stored is not None:
        return Credentials(device_token=stored), "the stored device token"
    return Credentials(), "no secret"


def approval_of(given: argparse.Namespace, outcome: Refused) -> report.Approval:
    """Return where to approve, with a command that works as printed.

    The environment takes precedence, then the run that the gateway belongs to, then the gateway's
    own information.
    """
    command = f"{calling.latchkey()} devices approve"
    if given.secrets != given.default_secrets:
        command += f" --secrets {shlex.quote(str(given.secrets))}"
    run: Running | None = given.run
    if url := _address(os.environ.get(APPROVAL_URL_NAME, "")):
        return report.Approval(f"{url}/setup", command)
    if run is not None and run.is_gateway(given.url):
        return report.Approval(run.approval_page, command)
    url = _address(str(outcome.details.get("approvalUrl", "")))
    if not url and given.url == DEFAULT_URL:
        url = DEFAULT_APPROVAL_URL
    if not url:
        return report.Approval(command=f"{APPROVAL_URL_NAME}=... {command}")
    if url != (run.approval_url if run else DEFAULT_APPROVAL_URL):
        # The admin token is sent to this address, so it must not be unencrypted over a network.
        safe = url.startswith("https://") or is_this_machine(url)
        command = f"{APPROVAL_URL_NAME}={shlex.quote(url) if safe else '...'} {command}"
    return report.Approval(f"{url}/setup", command)


def _address(text: str) -> str:
    """Return approval's address; empty if invalid."""
    try:
        return approval_address(text)
    except AddressError:
        return ""


def _own_origin(url: str) -> str:
    """Return the origin of pages that the gateway itself serves."""
    parts = urlsplit(url)
    return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"


def _gateway_url(text: str) -> str:
    try:
        return gateway_address(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared.device",
        description="Connect a device to a gateway and report the outcome.",
        epilog="Exit code: 0 admitted, 1 refused, 2 no gateway reached.",
    )
    add = parser.add_argument
    add(
        "url",
        nargs="?",
        type=_gateway_url,
        help=f"default: what `make run` started here, else {DEFAULT_URL}",
    )
    add(
        "--token-env",
        metavar="NAME",
        default=TOKEN_NAME,
        help=f"environment variable with the gateway token (default {TOKEN_NAME})",
    )
    add(
        "--secrets",
        metavar="FILE",
        type=Path,
        help="secrets file to read it from otherwise (default .data/secrets.env, written by "
        "`make run`); also selects the run with these secrets",
    )
    add(
        "--device-token",
        action="store_true",
        help="use only the stored device token, not the gateway token",
    )
    add(
        "--state",
        metavar="FILE",
        type=Path,
        default=Path(".data/device.json"),
        help="file for the device's key and tokens (default .data/device.json)",
    )
    add(
        "--profile",
        choices=sorted({name for name, _ in PROFILES}),
        default="cli",
        help="client to imitate (default cli)",
    )
    add("--protocol", type=int, choices=(4, 3), default=4, help="default 4")
    add("--scope", action="append", metavar="SCOPE", help="request this scope; may be repeated")
    add("--name", metavar="TEXT", help="display name to show during approval")
    add("--origin", metavar="URL", help="Origin header to send, as a browser does")
    add("--hold", action="store_true", help="keep the connection open and report how it ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
