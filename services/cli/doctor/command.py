"""`latchkey doctor`: the command and its output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click
import msgspec

from services.cli.context import Context, with_context
from services.cli.doctor import openclaw_causes
from services.cli.doctor.journey import Finding, Options, State
from services.cli.doctor.product import Kind
from services.cli.doctor.walk import Walk, is_well, walk
from services.cli.errors import Misused
from services.cli.exits import Exit
from services.cli.invocation import Command, typed
from services.cli.text.words import escaped
from shared.device.opening import Timeouts
from shared.device.state import StateError

if TYPE_CHECKING:
    from services.cli.text.output import Output

SHOWN_CHARACTERS: Final = 600
_MARKS: Final = {State.OK: "ok", State.NOTE: "--", State.WARNING: "!!", State.WRONG: "XX"}
_STYLES: Final = {
    State.OK: "green",
    State.NOTE: "dim",
    State.WARNING: "yellow",
    State.WRONG: "bold red",
}
_WARNED: Final = "Devices can connect, but see the warnings marked !!"
_WELL: Final = """\
No problem found. A device that gets "pairing required" waits for approval
by an operator:"""
_WELL_OPENCLAW: Final = """\
No problem found with this OpenClaw gateway. A device that gets "pairing
required" waits up to 5 minutes for approval. On the gateway's machine
(`railway ssh`, `docker compose exec openclaw-gateway bash`):"""
_AT_OPENCLAW: Final = ("openclaw devices list", "openclaw devices approve REQUEST-ID")
_ABOUT_LATEST: Final = """\
In current releases, `openclaw devices approve --latest` approves nothing: it
prints the command that does."""
_ABOUT_LATCHKEY: Final = """\
With Latchkey, any number of gateways share one device list, which survives
deploys and is managed from a page, an API or a command. Agents and chat stay
in one OpenClaw process behind it."""
_CURED_BY_LATCHKEY: Final = frozenset(
    {
        openclaw_causes.SEPARATE_LISTS,
        openclaw_causes.DEVICE_FORGOTTEN,
        openclaw_causes.PAIRING_REQUIRED,
    }
)


class StepReport(msgspec.Struct, rename="camel", frozen=True):
    """One step; `cause` is an id from the table of causes, or null."""

    step: str
    state: str
    found: str
    cause: str | None
    meaning: str
    what_to_do: str


class Gateway(msgspec.Struct, rename="camel", frozen=True):
    """The gateway: kind `latchkey`, `openclaw` or `unknown`; version empty if not known."""

    kind: str
    version: str


class Report(msgspec.Struct, rename="camel", frozen=True):
    """All steps; `ok` if no problem was found."""

    url: str
    ok: bool
    gateway: Gateway
    steps: list[StepReport]


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey doctor wss://my-gateway.up.railway.app
  latchkey doctor ws://127.0.0.1:18789 --origin https://my-gateway.example
  latchkey doctor wss://my-gateway.example --state .data/device.json
  latchkey doctor wss://my-openclaw.example --pairing-probe
""",
)
@click.argument("url", metavar="[WSS-URL]", default="")
@click.option("--origin", metavar="URL", help="Check whether pages from this origin may connect.")
@click.option(
    "--role",
    type=click.Choice(["operator", "node"]),
    default="operator",
    show_default=True,
    help="Role to request.",
)
@click.option(
    "--scope", "scopes", multiple=True, help="Scope to request; repeatable. Default: operator.read."
)
@click.option(
    "--state",
    "state_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also connect as this device (a file written by `python -m shared.device`).",
)
@click.option(
    "--pairing-probe",
    is_flag=True,
    help="OpenClaw: request pairing to compare device lists. The request stays for 5 minutes.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 24),
    default=8,
    show_default=True,
    help="Connections per check of the replicas.",
)
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(0.1, 60),
    default=5,
    show_default=True,
    help="Seconds to wait for each response.",
)
@with_context
async def doctor(
    context: Context,
    *,
    url: str,
    origin: str | None,
    role: str,
    scopes: tuple[str, ...],
    state_file: Path | None,
    pairing_probe: bool,
    connections: int,
    seconds: float,
) -> int:
    """Check each step of a device's connection.

    Stops at the first problem. The default address is the gateway that `make run` started on this
    machine.

    Works with Latchkey and plain OpenClaw gateways, and reports which one it found. Uses
    OPENCLAW_GATEWAY_TOKEN from the environment or the secrets file. Changes nothing at the
    gateway, except with --state or --pairing-probe, which connect as a device.
    """
    address = _gateway_url(url or context.config.gateway_url)
    options = Options(
        Timeouts(open=seconds, challenge=seconds, outcome=4 * seconds, call=seconds, close=seconds),
        origin=origin,
        role=role,
        scopes=scopes or (() if role == "node" else ("operator.read",)),
        state_file=state_file,
        connections=connections,
        pairing_probe=pairing_probe,
    )
    output = context.output
    output.aside(f"{escaped(address)}, step by step:", "bold")
    try:
        walked = await walk(
            address, options, context.config, lambda item: _print_finding(output, item)
        )
    except StateError as error:
        raise Misused("state-file", str(error)) from None
    well = is_well(walked.findings)
    if output.as_json:
        gateway = Gateway(walked.product.kind, walked.product.version)
        output.document(
            Report(address, well, gateway, [_step_report(finding) for finding in walked.findings])
        )
    else:
        _conclude(output, walked, well=well)
    return Exit.OK if well else Exit.REFUSED


def _conclude(output: Output, walked: Walk, *, well: bool) -> None:
    """Print what to do next, and for OpenClaw what Latchkey would improve."""
    is_openclaw = walked.product.kind is Kind.OPENCLAW
    warned = any(finding.state is State.WARNING for finding in walked.findings)
    if well and warned:
        output.line(f"\n{_WARNED}")
    if well and is_openclaw:
        output.line(f"\n{_WELL_OPENCLAW}")
        for command in _AT_OPENCLAW:
            output.line(f"  {command}")
        output.line(_ABOUT_LATEST)
    elif well and not warned:
        output.line(f"\n{_WELL}")
        output.line("  " + typed("devices list"))
    found = {finding.cause for finding in walked.findings if finding.state is State.WRONG}
    if is_openclaw and (well or found & _CURED_BY_LATCHKEY):
        output.line(f"\n{_ABOUT_LATCHKEY}")


def _print_finding(output: Output, finding: Finding) -> None:
    if output.as_json:
        return
    found = escaped(finding.found)[:SHOWN_CHARACTERS]
    output.step(_MARKS[finding.state], finding.step, found, _STYLES[finding.state])
    if finding.cause is not None:
        output.step("", "", f"Meaning: {escaped(finding.meaning)}")
        output.step("", "", f"Fix: {escaped(finding.cure)}")


def _step_report(finding: Finding) -> StepReport:
    return StepReport(
        finding.step,
        finding.state,
        finding.found,
        finding.cause.id if finding.cause else None,
        finding.meaning,
        finding.cure,
    )


def _gateway_url(text: str) -> str:
    """Return the WebSocket address; http:// becomes ws://, https:// becomes wss://."""
    like = "that is not an address like wss://host or ws://host:port"
    wrong = Misused("no-gateway-url", like)
    if "://" not in text:
        raise Misused("no-gateway-url", like, f"Add the scheme: ws://{text} or wss://{text}")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise wrong from None
    try:
        _ = parts.port
    except ValueError:
        port = "The port must be a number from 1 to 65535"
        raise Misused("no-gateway-url", like, f"{port}: {parts.netloc}") from None
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in {"ws", "wss"} or not parts.hostname or parts.username is not None:
        raise wrong
    return parts._replace(scheme=scheme, path=parts.path.rstrip("/"), fragment="").geturl()
