"""`latchkey upstream`: the OpenClaw gateway behind Latchkey, its configuration and its state."""

from __future__ import annotations

import ipaddress
import secrets as randomness
from typing import TYPE_CHECKING, Final

import click
import msgspec
from msgspec import UNSET

from services.cli.context import Context, with_context
from services.cli.doctor.upstream_causes import BY_ID, REFUSES, UNREACHABLE
from services.cli.errors import Misused
from services.cli.exits import Exit
from services.cli.invocation import Command, Group, command_name
from services.cli.text.words import escaped, safe
from services.cli.upstream_config import as_commands, as_json5, preauth_limit, upstream_config
from shared.settings.environment import origin_of
from shared.upstream import UPSTREAM_SECRET_MIN_CHARACTERS

if TYPE_CHECKING:
    from services.approval.schemas.replicas import UpstreamSeen
    from services.cli.doctor.cause import Cause
    from services.cli.text.output import Output

PASSWORD_BYTES: Final = 24
_LOOPBACK: Final = "127.0.0.1/32"


class Problem(msgspec.Struct, rename="camel", frozen=True):
    """One mistake in the configuration, with its cause."""

    cause: str
    meaning: str
    what_to_do: str


class Seen(msgspec.Struct, rename="camel", frozen=True):
    """What one gateway reports of its upstream."""

    replica: str
    reachable: bool
    version: str
    problems: list[Problem]


class Checked(msgspec.Struct, rename="camel", frozen=True):
    """All gateways; `ok`: each reaches a correctly configured upstream."""

    ok: bool
    gateways: list[Seen]
    without_upstream: list[str]


@click.group(cls=Group)
def upstream() -> None:
    """Put an OpenClaw gateway behind Latchkey and check it."""


@upstream.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey upstream config --origin https://chat.example --replicas 10.0.0.0/8
  latchkey upstream config --replicas 172.30.19.0/24 --gateways 12
""",
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="URL",
    help="Where people open the dashboard; default: GATEWAY_PUBLIC_URL, or that of `make run`.",
)
@click.option(
    "--replicas",
    "networks",
    multiple=True,
    metavar="CIDR",
    help="Addresses that the gateway replicas connect from; default: this machine.",
)
@click.option(
    "--gateways",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="How many gateway replicas there are.",
)
@with_context
async def config(
    context: Context, *, origins: tuple[str, ...], networks: tuple[str, ...], gateways: int
) -> None:
    """Print the configuration of the OpenClaw gateway, ready to paste.

    It is derived from UPSTREAM_SECRET in the environment or the secrets file, and is secret: only
    gateways and OpenClaw may know it.
    """
    secret = context.config.upstream_secret or ""
    if len(secret) < UPSTREAM_SECRET_MIN_CHARACTERS:
        raise Misused(
            "no-upstream-secret",
            "UPSTREAM_SECRET is not set here, or is too short",
            "Set it to the gateways' value, or make a new one: latchkey secrets UPSTREAM_SECRET",
        )
    ranges = [_network(network) for network in networks] or [_LOOPBACK]
    made = upstream_config(
        secret,
        origins=[_origin(origin) for origin in origins or (context.config.gateway_public_url,)],
        replicas=ranges,
        password=randomness.token_urlsafe(PASSWORD_BYTES),
    )
    output = context.output
    if output.as_json:
        output.document(made)
        return
    limit = preauth_limit(gateways)
    output.aside("For openclaw.json (JSON5); keep its other settings:", "bold")
    click.echo(as_json5(made))
    output.aside("\nOr the same with commands, on OpenClaw's machine:", "bold")
    output.aside("openclaw config unset gateway.auth.token")
    for command in as_commands(made):
        output.aside(command)
    if limit:
        output.aside("\nAnd in the environment of OpenClaw, for this many gateways:", "bold")
        output.aside(f"OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP={limit}")
    output.aside(
        "\nRestart OpenClaw, set UPSTREAM_URL and UPSTREAM_SECRET on the gateways, and run: "
        f"{command_name()} upstream check"
    )


@upstream.command(
    cls=Command, epilog="\b\nExample:\n  latchkey upstream check --json | jq '.gateways[]'\n"
)
@with_context
async def check(context: Context) -> int:
    """Show whether each gateway reaches OpenClaw, and what is wrong with its configuration.

    Gateways check the connection every 5 seconds and the configuration every 30 seconds. This
    command asks approval for their latest results.
    """
    async with context.approval() as approval:
        live = await approval.replicas()
    seen = [
        _seen(gateway.boot_id, gateway.upstream)
        for gateway in live.gateways
        if gateway.upstream is not UNSET
    ]
    without = [gateway.boot_id for gateway in live.gateways if gateway.upstream is UNSET]
    well = bool(seen) and not without and all(item.reachable and not item.problems for item in seen)
    output = context.output
    if output.as_json:
        output.document(Checked(well, seen, without))
        return Exit.OK if well else Exit.REFUSED
    for item in seen:
        _tell(output, item)
    for replica in without:
        output.step(
            "XX", replica[:10], "This gateway has no upstream: set UPSTREAM_URL.", "bold red"
        )
    if not live.gateways:
        output.line("No gateway is alive.")
    elif well:
        output.line("\nAll gateways reach OpenClaw, and it is configured correctly.")
    return Exit.OK if well else Exit.REFUSED


def problems_of(found: UpstreamSeen) -> list[tuple[Cause, dict[str, str]]]:
    """Return the cause of each problem that a gateway reports, with the values to fill in."""
    reason = "" if found.reason is UNSET else found.reason
    codes = () if found.problems is UNSET else found.problems
    if not codes and not found.reachable:
        codes = (UNREACHABLE.id,)
    return [(BY_ID.get(code, REFUSES), {"reason": reason or "no answer"}) for code in codes]


def _seen(replica: str, found: UpstreamSeen) -> Seen:
    return Seen(
        replica,
        found.reachable,
        "" if found.version is UNSET else found.version,
        [
            Problem(cause.id, *cause.filled(values | {"latchkey": command_name()}))
            for cause, values in problems_of(found)
        ],
    )


def _tell(output: Output, seen: Seen) -> None:
    version = f" {safe(seen.version)}" if seen.version else ""
    if not seen.problems:
        output.step("ok", seen.replica[:10], f"OpenClaw{version} answers", "green")
    for problem in seen.problems:
        output.step("XX", seen.replica[:10], problem.cause, "bold red")
        output.step("", "", f"What it means: {escaped(problem.meaning)}")
        output.step("", "", f"What to do: {escaped(problem.what_to_do)}")


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise Misused(
            "no-network", f"{text} is not an address range", "Examples: 10.0.0.0/8, 192.0.2.7"
        ) from None


def _origin(text: str) -> str:
    if not text:
        raise Misused(
            "no-origin",
            "The dashboard's address is not known: `make run` is not running here",
            "Give it (--origin https://chat.example), or set GATEWAY_PUBLIC_URL",
        )
    origin = origin_of(text.replace("ws", "http", 1) if text.startswith("ws") else text)
    if origin is None:
        raise Misused(
            "no-origin",
            f"{text} is not the address of a page",
            "Give it: --origin https://chat.example",
        )
    return origin
