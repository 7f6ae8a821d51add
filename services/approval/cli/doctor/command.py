"""`latchkey doctor`: the command and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click
import msgspec

from services.approval.cli.desk import Desk, at_desk
from services.approval.cli.doctor.journey import Finding, State, Wishes
from services.approval.cli.doctor.walk import is_well, walk
from services.approval.cli.errors import Misused
from services.approval.cli.exits import Exit
from services.approval.cli.typed import Command, typed
from services.approval.cli.words import escaped
from shared.device.opening import Timeouts
from shared.device.state import StateError

if TYPE_CHECKING:
    from services.approval.cli.output import Output

SHOWN_CHARACTERS: Final = 600
_MARKS: Final = {State.OK: "ok", State.NOTE: "--", State.WARNING: "!!", State.WRONG: "XX"}
_STYLES: Final = {
    State.OK: "green",
    State.NOTE: "dim",
    State.WARNING: "yellow",
    State.WRONG: "bold red",
}
_WELL: Final = """\
Nothing is wrong on the way. A device that is told "pairing required" waits
for a person:"""
_WARNED: Final = "Devices get in; look at what is marked !!"


class Said(msgspec.Struct, rename="camel", frozen=True):
    """One step; `cause` is an id of the table of causes, null where all is well."""

    step: str
    state: str
    found: str
    cause: str | None
    meaning: str
    what_to_do: str


class Report(msgspec.Struct, rename="camel", frozen=True):
    """The whole walk; `ok`: nothing ended it."""

    url: str
    ok: bool
    steps: list[Said]


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey doctor wss://my-gateway.up.railway.app
  latchkey doctor ws://127.0.0.1:18789 --origin https://my-gateway.example
  latchkey doctor wss://my-gateway.example --state .data/device.json
""",
)
@click.argument("url", metavar="[WSS-URL]", default="")
@click.option("--origin", metavar="URL", help="The page whose right to connect is tried.")
@click.option("--role", type=click.Choice(["operator", "node"]), default="operator")
@click.option("--scope", "scopes", multiple=True, help="What to ask for; default: operator.read.")
@click.option(
    "--state",
    "state_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Walk as this device (a file of `python -m shared.device`), not as a new one.",
)
@click.option("--connections", type=click.IntRange(1, 24), default=8, show_default=True)
@click.option("--timeout", "seconds", type=click.FloatRange(0.1, 60), default=5, show_default=True)
@at_desk
async def doctor(
    desk: Desk,
    *,
    url: str,
    origin: str | None,
    role: str,
    scopes: tuple[str, ...],
    state_file: Path | None,
    connections: int,
    seconds: float,
) -> int:
    """Walk the way of a device to a gateway, and stop at the first thing that is wrong.

    Without an address: to what `make run` started here.

    Comes with OPENCLAW_GATEWAY_TOKEN from the environment or the secrets file. Unless --state is
    given, it asks to be paired as a new device under the name "latchkey doctor"; do not approve
    that. With an admin token at hand it takes the request back itself.
    """
    address = _gateway_url(url or desk.surroundings.gateway_url)
    wishes = Wishes(
        Timeouts(open=seconds, challenge=seconds, outcome=4 * seconds, call=seconds, close=seconds),
        origin=origin,
        role=role,
        scopes=scopes or (() if role == "node" else ("operator.read",)),
        state_file=state_file,
        connections=connections,
    )
    output = desk.output
    output.aside(f"{escaped(address)}, step by step:", "bold")
    try:
        findings = await walk(address, wishes, desk.surroundings, lambda one: _tell(output, one))
    except StateError as error:
        raise Misused("state-file", str(error)) from None
    well = is_well(findings)
    if output.as_json:
        output.document(Report(address, well, [_said(one) for one in findings]))
    elif well:
        warned = any(one.state is State.WARNING for one in findings)
        output.line(f"\n{_WARNED if warned else _WELL}")
        if not warned:
            output.line("  " + typed("devices list"))
    return Exit.OK if well else Exit.REFUSED


def _tell(output: Output, finding: Finding) -> None:
    if output.as_json:
        return
    found = escaped(finding.found)[:SHOWN_CHARACTERS]
    output.step(_MARKS[finding.state], finding.step, found, _STYLES[finding.state])
    if finding.cause is not None:
        output.step("", "", f"What it means: {escaped(finding.meaning)}")
        output.step("", "", f"What to do: {escaped(finding.cure)}")


def _said(finding: Finding) -> Said:
    return Said(
        finding.step,
        finding.state,
        finding.found,
        finding.cause.id if finding.cause else None,
        finding.meaning,
        finding.cure,
    )


def _gateway_url(text: str) -> str:
    """Return the WebSocket address; https:// is taken for wss://."""
    like = "that is no address like wss://host or ws://host:port"
    wrong = Misused("no-gateway-url", like)
    if "://" not in text:
        raise Misused(
            "no-gateway-url", like, f"Say how it is spoken to: ws://{text} or wss://{text}"
        )
    try:
        parts = urlsplit(text)
    except ValueError:
        raise wrong from None
    try:
        _ = parts.port
    except ValueError:
        port = "Its port has to be a number from 1 to 65535"
        raise Misused("no-gateway-url", like, f"{port}: {parts.netloc}") from None
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in {"ws", "wss"} or not parts.hostname or parts.username is not None:
        raise wrong
    return parts._replace(scheme=scheme, path=parts.path.rstrip("/"), fragment="").geturl()
