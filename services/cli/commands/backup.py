"""`latchkey backup` and `latchkey restore`: save paired devices to a file and restore them."""

from __future__ import annotations

import contextlib
import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from services.approval.api.parameters import PART_LIMIT_DEVICES, RestorePart
from services.approval.backup import format as backups
from services.cli.context import Context, with_context
from services.cli.errors import ApiError
from services.cli.invocation import Command, typed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from services.approval.backup.format import Backup
    from services.approval.backup.records import BackupDevice
    from services.cli.client import ApprovalClient

PART_LIMIT_BYTES: Final = 49_152
"""Maximum JSON size of the devices in one call; approval accepts slightly more."""
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


class BackedUp(msgspec.Struct, rename="camel", frozen=True):
    """The contents of a backup; `number` is the last change it includes."""

    file: str
    made_at_ms: int
    number: int
    devices: int
    audit: int
    sha256: str


class Restored(msgspec.Struct, frozen=True):
    """How many devices were restored, and how many were skipped because they were paired again."""

    file: str
    restored: int
    skipped: int


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey backup latchkey-$(date +%F).jsonl
  latchkey backup nightly.jsonl --replace --json
""",
)
@click.argument("file", type=_FILE)
@click.option("--replace", is_flag=True, help="Overwrite FILE if it exists.")
@with_context
async def backup(context: Context, *, file: Path, replace: bool) -> None:
    """Save paired devices and audit log to FILE.

    FILE is a consistent snapshot, written atomically and readable only by its owner. It contains no
    secrets: keep TOKEN_SECRET elsewhere, because device tokens are invalid after a restore without
    it.
    """
    _require_absent(file, replace=replace)
    async with context.approval() as approval:
        made = await _write(approval.backup(), file)
    held = BackedUp(str(file), made.made_at_ms, made.number, len(made.devices), made.audit, made.id)
    if context.output.as_json:
        context.output.document(held)
    else:
        context.output.line(
            f"Wrote {held.devices} devices and {held.audit} audit entries to {file}, "
            f"as of change {held.number}."
        )


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey restore latchkey-2026-11-22.jsonl
  latchkey restore nightly.jsonl --yes --json
""",
)
@click.argument("file", type=_FILE)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def restore(context: Context, *, file: Path, yes: bool) -> None:
    """Restore paired devices from FILE.

    The approval service must not have paired devices yet. Devices keep their tokens if approval
    runs with the same TOKEN_SECRET as before. Pending requests and the audit log are not restored.
    If interrupted, run it again: it resumes.
    """
    found = _read(file)
    made = datetime.fromtimestamp(found.made_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    async with context.approval() as approval:
        about = f"{len(found.devices)} devices as of {made} (change {found.number})"
        question = f"Restore {about} to {approval.url}?"
        context.confirm(question, yes=yes, how=typed(f"restore {shlex.quote(str(file))} --yes"))
        skipped = await _restore_parts(approval, found)
    done = Restored(str(file), len(found.devices) - skipped, skipped)
    if context.output.as_json:
        context.output.document(done)
        return
    context.output.line(f"Restored {done.restored} devices from {file}.")
    if skipped:
        context.output.line(f"Skipped {skipped} devices that have been paired again since.")


def _require_absent(file: Path, *, replace: bool) -> None:
    if file.exists() and not replace:
        raise ApiError("file-exists", f"{file} already exists.", "Overwrite it with --replace.")


async def _write(coming: AsyncIterator[bytes], file: Path) -> Backup:
    """Write a backup to a temporary file and rename it once complete; raises ApiError."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as written:
                async for chunk in coming:
                    written.write(chunk)
                written.flush()
                os.fsync(written.fileno())
            made = _read(new)
            new.replace(file)
            _sync_directory(file.parent)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise ApiError("not-written", f"cannot write {file}: {error.strerror}") from error
    return made


def _sync_directory(directory: Path) -> None:
    """Sync the directory, where the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(file: Path) -> Backup:
    """Read and check a backup; raises ApiError."""
    try:
        with file.open("rb") as lines:
            return backups.read(lines)
    except OSError as error:
        raise ApiError("not-read", f"cannot read {file}: {error.strerror}") from error
    except backups.BrokenBackup as error:
        raise ApiError(
            "broken-backup", f"{file} is not a complete backup: {error}", "Nothing was changed."
        ) from error


async def _restore_parts(approval: ApprovalClient, found: Backup) -> int:
    """Restore part by part; return how many devices were skipped."""
    devices = list(found.devices.values())
    at = skipped = 0
    while True:
        part = _part(devices, at)
        progress = await approval.restore(
            RestorePart(found.id, found.number, len(devices), at, part)
        )
        at, skipped = progress.done, skipped + progress.skipped
        if at >= len(devices):
            return skipped


def _part(devices: Sequence[BackupDevice], at: int) -> list[BackupDevice]:
    return list(_fitting(devices[at : at + PART_LIMIT_DEVICES]))


def _fitting(devices: Sequence[BackupDevice]) -> Iterator[BackupDevice]:
    """Yield the first devices that fit into one call, but at least one."""
    size = 0
    for device in devices:
        length = len(msgspec.json.encode(device))
        if size and size + length > PART_LIMIT_BYTES:
            return
        size += length
        yield device
