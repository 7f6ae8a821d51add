"""`latchkey devices invite`: create a setup code, show it as a QR code, wait for the device."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from typing import TYPE_CHECKING, Final

import click
import segno
from msgspec import UNSET

from services.approval.schemas.setup_codes import (
    CreatedSetupCode,
    RevokedSetupCode,
    RevokedSetupCodes,
    SetupCodeList,
    SetupCodeObject,
)
from services.cli.context import Context, with_context
from services.cli.errors import Misused, OutcomeUnknown, Unreachable
from services.cli.exits import Exit
from services.cli.invocation import Command, typed
from services.cli.text.words import ago, length, safe

if TYPE_CHECKING:
    from services.cli.client import ApprovalClient

LOOK_SECONDS: Final = 1.0
"""How often the outcome is looked up."""
PATH: Final = "/v1/setup-codes"
_PROFILES: Final = {
    "full": "full: a phone that may do everything, including approving others",
    "limited": "limited: a phone without administration",
    "node": "node: a node host",
    "voice-node": "voice-node: an ESP32 voice device",
}


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey devices invite                       a QR code for a phone
  latchkey devices invite --profile node        a command for a node host
  latchkey devices invite --no-wait --json | jq -r .setupCode
  latchkey devices invite --list
  latchkey devices invite --revoke all --yes
""",
)
@click.option(
    "--profile",
    type=click.Choice([*_PROFILES]),
    default="full",
    show_default=True,
    help="; ".join(_PROFILES.values()) + ".",
)
@click.option(
    "--gateway-url",
    metavar="URL",
    help="Where the device connects. Default: GATEWAY_PUBLIC_URL of the approval service.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait until the device is paired.")
@click.option("--list", "listing", is_flag=True, help="List live setup codes instead.")
@click.option("--revoke", metavar="ID", help="Revoke a live setup code instead, or `all` of them.")
@click.option("--yes", is_flag=True, help="Do not ask before revoking.")
@with_context
async def invite(
    context: Context,
    *,
    profile: str,
    gateway_url: str | None,
    no_wait: bool,
    listing: bool,
    revoke: str | None,
    yes: bool,
) -> int:
    """Create a setup code, which pairs one device without approval.

    It works once, within ten minutes, for whoever has it: show it to nobody else.
    """
    if listing and revoke is not None:
        raise Misused("both", "Give either --list or --revoke.")
    async with context.approval() as approval:
        if listing:
            await _list(context, approval)
        elif revoke is not None:
            await _revoke(context, approval, revoke, yes=yes)
        else:
            body = {"profile": profile, "joinUrl": profile == "node"}
            if gateway_url is not None:
                body["gatewayUrl"] = gateway_url
            return int(await _invite(context, approval, body, wait=not no_wait))
    return Exit.OK


async def _invite(
    context: Context, approval: ApprovalClient, body: dict[str, object], *, wait: bool
) -> int:
    created = await _create(approval, body)
    output = context.output
    if output.as_json:
        output.document(created)
    else:
        _show(context, created)
        sys.stdout.flush()  # a program that reads it waits, too
    if not wait or output.as_json:
        return Exit.OK
    output.aside("Waiting for the device; press Ctrl-C to stop. The code keeps working.", "dim")
    ended = await _outcome(approval, created.created)
    if ended.state == "used":
        name = ended.device_name if ended.device_name is not UNSET else "a device"
        device = "" if ended.device_id is UNSET else f" ({ended.device_id[:12]})"
        output.line(f"Paired: {safe(str(name))}{device}.", "green")
        if not ended.delivered:
            output.aside(
                "It may not have received its tokens. If it does not connect, invite it again."
            )
        return Exit.OK
    output.line(f"The setup code is {ended.state}; no device was paired.", "yellow")
    return Exit.REFUSED


async def _create(approval: ApprovalClient, body: dict[str, object]) -> CreatedSetupCode:
    return await approval.call("POST", PATH, CreatedSetupCode, body)


def _show(context: Context, created: CreatedSetupCode) -> None:
    """Print the QR code, or the command lines of a node, with what the code grants."""
    output, code = context.output, created.created
    if code.profile == "node":
        output.line("Run one of these on the node:")
        if created.join_url is not UNSET:
            output.line(f"  npx openclaw connect {created.join_url}")
        output.line(f'  openclaw node run --pair "oc-pair://{created.setup_code}"')
    else:
        drawn = io.StringIO()
        segno.make(created.setup_code, error="m", micro=False).terminal(drawn, compact=True)
        output.line(drawn.getvalue().rstrip("\n"))
        output.line("Scan it with the OpenClaw app, or paste this setup code there:")
        output.line(created.setup_code)
    output.line()
    lowered = ", lowered by the gateway's address or SETUP_CODE_ACCESS"
    output.line(
        f"Access: {code.access}{lowered if code.access_downgraded else ''}."
        f" Gateway: {safe(code.gateway_url)}. Valid for"
        f" {length(code.expires_at_ms - time.time_ns() // 1_000_000)}."
    )
    output.line("Revoke it: " + typed(f"devices invite --revoke {code.setup_id} --yes"), "dim")


async def _outcome(approval: ApprovalClient, code: SetupCodeObject) -> SetupCodeObject:
    """Return the code once it has ended, and for a moment later if delivery is not known."""
    waits_for_delivery = 5
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            code = await approval.call("GET", f"{PATH}/{code.setup_id}", SetupCodeObject)
        except (Unreachable, OutcomeUnknown):
            continue
        if code.state in {"live", "bound"}:
            continue
        if code.state != "used" or code.delivered is True or waits_for_delivery == 0:
            return code
        waits_for_delivery -= 1


async def _list(context: Context, approval: ApprovalClient) -> None:
    found = await approval.call("GET", PATH, SetupCodeList)
    if context.output.as_json:
        context.output.document(found)
        return
    if not found.setup_codes:
        context.output.line("No setup codes are live.")
        return
    now_ms = time.time_ns() // 1_000_000
    columns = ("id", "access", "state", "created by", "created", "valid for")
    rows = [
        [
            one.setup_id,
            one.access,
            one.state if one.device_id is UNSET else f"bound to {one.device_id[:12]}",
            safe(one.created_by),
            ago(one.created_at_ms, now_ms),
            length(one.expires_at_ms - now_ms),
        ]
        for one in found.setup_codes
    ]
    context.output.table(f"Setup codes ({len(rows)})", columns, rows)


async def _revoke(context: Context, approval: ApprovalClient, which: str, *, yes: bool) -> None:
    how = typed(f"devices invite --revoke {safe(which)} --yes")
    if which == "all":
        context.confirm("Revoke all live setup codes?", yes=yes, how=how)
        done = await approval.call("POST", "/v1/setup-code-revocations", RevokedSetupCodes)
        sentence = f"Revoked {len(done.revoked)} setup codes."
    elif all(one.isascii() and (one.isalnum() or one == "-") for one in which) and which:
        context.confirm(f"Revoke setup code {which}?", yes=yes, how=how)
        one = await approval.call("POST", f"{PATH}/{which}/revoke", RevokedSetupCode)
        done, sentence = RevokedSetupCodes([one.revoked]), f"Revoked setup code {which}."
    else:
        raise Misused("no-id", "That is not the id of a setup code.")
    if context.output.as_json:
        context.output.document(done)
    else:
        context.output.line(sentence)
