"""`latchkey export openclaw`: writes paired devices into OpenClaw's own pairing records."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from services.approval.backup import format as backups
from services.cli.context import Context, with_context
from services.cli.errors import OutcomeUnknown
from services.cli.invocation import Command, Group, typed
from services.cli.migration.writing import (
    existing_ids,
    require_unused,
    target_of,
    write_records,
)
from services.cli.text.words import safe

if TYPE_CHECKING:
    from services.approval.backup.records import BackupDevice
    from services.cli.client import ApprovalClient


class Exported(msgspec.Struct, frozen=True):
    """Devices that were added (in a dry run: would be), and those that OpenClaw had already.

    `copy`: the file as it was before; empty if there was none, or nothing was changed.
    """

    file: str
    added: int
    exists: int
    copy: str = ""


@click.group("export", cls=Group)
def export() -> None:
    """Write paired devices into another system's records."""


@export.command(
    "openclaw",
    cls=Command,
    epilog="""\b
Examples:
  latchkey export openclaw ~/.openclaw --dry-run
  latchkey export openclaw ~/.openclaw
  latchkey export openclaw paired.json --yes
""",
)
@click.argument("path", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would happen, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def openclaw(context: Context, *, path: Path, dry_run: bool, yes: bool) -> None:
    """Write paired devices into OpenClaw's own pairing records.

    DIR is OpenClaw's state directory: the devices are added to its database or, if there is none,
    to devices/paired.json. Stop OpenClaw first. A copy of the changed file is kept beside it, and
    devices that OpenClaw has paired already stay as they are.

    Devices return to OpenClaw with the gateway token: it cannot verify Latchkey's device tokens.
    """
    target = target_of(path)
    if not dry_run:
        require_unused(target)
    exists = existing_ids(target)
    output = context.output
    async with context.approval() as approval:
        devices = await _devices(approval)
        added = [one for one in devices if one.device_id not in exists]
        plan = Exported(str(target.file), len(added), len(devices) - len(added))
        if not output.as_json:
            kind = "database" if target.is_database else "file"
            output.line(f"OpenClaw's {kind} {safe(plan.file)}:")
            output.line(f"{plan.added:>7} to add")
            if plan.exists:
                output.line(f"{plan.exists:>7} paired there already, stay as they are")
        if dry_run or not added:
            if output.as_json:
                output.document(plan)
            else:
                output.line("Nothing was changed." if added else "Nothing to export.")
            return
        context.confirm(
            f"Add {len(added)} devices to {plan.file}?",
            yes=yes,
            how=typed(f"export openclaw {shlex.quote(str(path))} --yes"),
        )
    written = write_records(target, devices)
    done = Exported(plan.file, written.added, written.exists, written.copy)
    if output.as_json:
        output.document(done)
        return
    output.line(f"Devices added to {safe(done.file)}: {done.added}")
    if done.copy:
        output.line(f"As it was before: {safe(done.copy)}")


async def _devices(approval: ApprovalClient) -> list[BackupDevice]:
    """Return all paired devices, as of one change; raises CommandError."""
    text = bytearray()
    async for chunk in approval.backup():
        text += chunk
    try:
        found = backups.read(bytes(text).splitlines(keepends=True))
    except backups.BrokenBackup as error:
        raise OutcomeUnknown(
            "not-read", f"approval broke off the list of devices: {error}", "Run it again."
        ) from error
    return list(found.devices.values())
