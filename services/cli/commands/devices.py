"""`latchkey devices`: list, rename, remove, rotate, revoke; the others have their own modules."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import click
import msgspec

from services.cli.commands.approve import approve, reject
from services.cli.commands.invite import invite
from services.cli.commands.watch import watch
from services.cli.commands.why import why
from services.cli.context import Context, with_context
from services.cli.errors import Misused
from services.cli.invocation import Command, Group, typed
from services.cli.resolve import device_named, matches_id, role_of
from services.cli.text import rows
from services.cli.text.words import safe
from shared.protocol.limits import LABEL_LIMIT_CHARACTERS

if TYPE_CHECKING:
    from services.approval.schemas import devices as objects

_ROLES = click.Choice(["operator", "node"])


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Pending requests, newest first, paired devices, and devices with unreadable records."""

    pending: list[objects.WaitingRequest]
    devices: list[objects.PairedDevice]
    unreadable: list[objects.UnreadableDevice] = []


@click.group(cls=Group)
def devices() -> None:
    """Approve and manage devices."""


@click.command(
    "list", cls=Command, epilog="\b\nExample:\n  latchkey devices list --json | jq '.pending[]'\n"
)
@with_context
async def list_devices(context: Context) -> None:
    """List pending requests and paired devices."""
    async with context.approval() as approval:
        pending, found = await approval.pending(), await approval.listed_devices()
    listed = Listed(pending, found.devices, found.unreadable)
    output, now_ms = context.output, time.time_ns() // 1_000_000
    if output.as_json:
        output.document(listed)
        return
    if listed.pending:
        output.table(
            f"Waiting for approval ({len(listed.pending)})",
            ("request", "device", "asks for", "from", "asked"),
            [rows.pending_row(request, now_ms) for request in listed.pending],
        )
        output.line("Approve one:", "dim")
        output.line("  " + typed("devices approve REQUEST-ID"), "dim")
    else:
        output.line("No requests are pending.")
    output.line()
    if listed.devices:
        output.table(
            f"Paired ({len(listed.devices)})",
            ("device", "name", "access", "status"),
            [rows.device_row(device, now_ms) for device in listed.devices],
        )
    else:
        output.line("No devices are paired.")
    if any(map(rows.needs_care, listed.pending)) or any(map(rows.needs_care, listed.devices)):
        output.line(rows.MARKED, "dim")
    if listed.unreadable:
        output.line()
        output.table(
            f"Unreadable records ({len(listed.unreadable)})",
            ("device", "what to do"),
            [
                [safe(item.device_id), typed(f"devices remove {item.device_id[:16]}")]
                for item in listed.unreadable
            ],
        )


@click.command(
    cls=Command, epilog="\b\nExample:\n  latchkey devices rename eb62a6715dee 'Kitchen Mac'\n"
)
@click.argument("device_id", metavar="DEVICE")
@click.argument("label")
@with_context
async def rename(context: Context, *, device_id: str, label: str) -> None:
    """Set a paired device's label. DEVICE is its id or at least the first eight characters."""
    if not 0 < len(label.strip()) <= LABEL_LIMIT_CHARACTERS:
        length = f"this one has {len(label.strip())}" if label.strip() else "this one is empty"
        raise Misused(
            "label",
            f"a label must have 1 to {LABEL_LIMIT_CHARACTERS} characters; {length}",
            "Name the device, for example:",
            "  " + typed(f"devices rename {shlex.quote(device_id)} 'Kitchen Mac'"),
        )
    async with context.approval() as approval:
        device = device_named(device_id, await approval.devices(device_id))
        renamed = await approval.rename(device.device_id, label)
    _print_result(context, renamed, f"Renamed {renamed.device_id} to {safe(renamed.label)}.")


@click.command(cls=Command, epilog="\b\nExample:\n  latchkey devices remove eb62a6715dee --yes\n")
@click.argument("device_id", metavar="DEVICE")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def remove(context: Context, *, device_id: str, yes: bool) -> None:
    """Remove a device and close its connections."""
    async with context.approval() as approval:
        found = await approval.listed_devices()
        broken = [
            item for item in found.unreadable if matches_id(device_id.lower(), item.device_id)
        ]
        if len(broken) == 1:
            full_id = broken[0].device_id
            called = f"{safe(full_id[:16])}, whose record is unreadable"
        else:
            device = device_named(device_id, found.devices)
            full_id, called = device.device_id, _called(device)
        context.confirm(
            f"Remove {called}?", yes=yes, how=typed(f"devices remove {safe(full_id)} --yes")
        )
        removed = await approval.remove(full_id)
    _print_result(context, removed, f"Removed {called}. It needs approval to connect again.")


@click.command(
    cls=Command,
    epilog="\b\nExample:\n  latchkey devices rotate eb62a6715dee --role operator --yes\n",
)
@click.argument("device_id", metavar="DEVICE")
@click.option("--role", type=_ROLES, help="Role of the token. Default: the device's only role.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    help="Scope of the new token; repeatable. Default: unchanged.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def rotate(
    context: Context, *, device_id: str, role: str | None, scopes: tuple[str, ...], yes: bool
) -> None:
    """Issue a new device token.

    Closes the device's connections. The device receives the token when it next connects with the
    gateway token.
    """
    async with context.approval() as approval:
        device = device_named(device_id, await approval.devices(device_id))
        of = role_of(device, role)
        command = typed(f"devices rotate {device.device_id} --role {of} --yes")
        context.confirm(f"Rotate the {of} token of {_called(device)}?", yes=yes, how=command)
        rotated = await approval.rotate(device.device_id, of, list(scopes) or None)
    _print_result(context, rotated, f"Rotated the {of} token of {_called(device)}.")


@click.command(
    cls=Command, epilog="\b\nExample:\n  latchkey devices revoke eb62a6715dee --role node --yes\n"
)
@click.argument("device_id", metavar="DEVICE")
@click.option("--role", type=_ROLES, help="Role of the token. Default: the device's only role.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def revoke(context: Context, *, device_id: str, role: str | None, yes: bool) -> None:
    """Revoke a device token.

    Closes the device's connections. The role needs approval again.
    """
    async with context.approval() as approval:
        device = device_named(device_id, await approval.devices(device_id))
        of = role_of(device, role)
        command = typed(f"devices revoke {device.device_id} --role {of} --yes")
        context.confirm(f"Revoke the {of} token of {_called(device)}?", yes=yes, how=command)
        revoked = await approval.revoke(device.device_id, of)
    _print_result(context, revoked, f"Revoked the {of} token of {_called(device)}.")


def _called(device: objects.PairedDevice) -> str:
    return f"{rows.name_of(device)} ({device.device_id[: rows.ID_CHARACTERS]})"


def _print_result(context: Context, result: msgspec.Struct, sentence: str) -> None:
    if context.output.as_json:
        context.output.document(result)
    else:
        context.output.line(sentence)


for _command in (
    list_devices,
    invite,
    approve,
    reject,
    remove,
    rename,
    rotate,
    revoke,
    watch,
    why,
):
    devices.add_command(_command)
