"""`latchkey import openclaw`: takes over the devices that OpenClaw has paired."""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from services.approval.api.parameters import PART_LIMIT_DEVICES, ImportPart
from services.approval.imports.records import ImportedDevice
from services.cli.context import Context, with_context
from services.cli.errors import CommandError, OutcomeUnknown, Unreachable
from services.cli.invocation import Command, Group, typed
from services.cli.migration.location import locate
from services.cli.migration.reading import read_records
from services.cli.text.words import SCOPES, beginning, safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.approval.imports.records import ImportDevice
    from services.cli.client import ApprovalClient
    from services.cli.migration.reading import FoundRecords
    from services.cli.text.output import Output

PART_LIMIT_BYTES: Final = 49_152
"""Maximum JSON size of the devices in one call; approval accepts slightly more."""
TRIES_LIMIT: Final = 3
"""How often a call is made if its outcome is unknown; approval carries it out once."""
RETRY_SECONDS: Final = 1.0
SHOWN_DEVICES: Final = 40
"""How many devices of each outcome the plan lists; --json lists all."""
ID_CHARACTERS: Final = 16
_OUTCOMES: Final = {
    "added": "to add",
    "exists": "paired already, stay as they are",
    "differs": "paired already with fewer rights, stay as they are",
    "refused": "impossible to import",
}
_RETURN: Final[dict[object, str]] = {
    "its-token": "Return once with the token they have",
    "gateway-token": "Return with the gateway token",
    "approval": "Need another approval, because their tokens are revoked",
}
_RETURNS: Final[dict[object, str]] = {
    "gateway-token": "returns with the gateway token",
    "approval": "has to be approved again: its tokens are revoked",
}


class ImportPlan(msgspec.Struct, rename="camel", frozen=True):
    """What an import does, device by device; `importId` is empty if nothing was imported."""

    source: str
    release: str
    import_id: str
    devices: list[ImportedDevice]
    counts: dict[str, int]
    pending: int


@click.group("import", cls=Group)
def import_() -> None:
    """Take over devices that another system has paired."""


@import_.command(
    "openclaw",
    cls=Command,
    epilog="""\b
Examples:
  latchkey import openclaw ~/.openclaw --dry-run
  latchkey import openclaw ~/.openclaw
  latchkey import openclaw paired.json --yes --json
""",
)
@click.argument("path", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would happen, and change nothing.")
@click.option(
    "--no-exchange",
    is_flag=True,
    help="Do not accept the devices' earlier tokens: each returns with the gateway token.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def openclaw(
    context: Context, *, path: Path, dry_run: bool, no_exchange: bool, yes: bool
) -> None:
    """Take over the devices that OpenClaw has paired.

    DIR is OpenClaw's state directory (by default ~/.openclaw), FILE its database or paired.json. It
    is only read. Devices keep their roles, scopes and labels. Devices that are paired here already
    stay as they are.

    Each device may return once with the token that OpenClaw gave it, within 30 days, and then gets
    one of Latchkey's. If interrupted, run it again: it adds what is missing.
    """
    found = read_records(locate(path), with_tokens=not no_exchange)
    async with context.approval() as approval:
        plan = await _planned(approval, found)
        if not context.output.as_json:
            _show_plan(context.output, found, plan)
        wanted = _added(found.devices, plan.devices)
        if not wanted or dry_run:
            if context.output.as_json:
                context.output.document(plan)
            else:
                context.output.line("Nothing was changed." if wanted else "Nothing to import.")
            return
        context.confirm(
            f"Import {len(wanted)} devices to {approval.url}?",
            yes=yes,
            how=typed(f"import openclaw {shlex.quote(str(path))} --yes"),
        )
        import_id = secrets.token_hex(8)
        done = await _import(approval, import_id, wanted)
    result = _result(found, plan, done, import_id)
    if context.output.as_json:
        context.output.document(result)
    else:
        _show_result(context.output, result)


async def _planned(approval: ApprovalClient, found: FoundRecords) -> ImportPlan:
    """Ask approval what would happen to each device."""
    outcomes = [
        ImportedDevice(device_id=one.device_id, outcome="refused", why=one.why)
        for one in found.refused
    ]
    import_id = secrets.token_hex(8)
    for part in _parts(found.devices):
        answer = await approval.import_part(ImportPart(import_id, part, dry_run=True))
        outcomes += answer.devices
    return _plan(found, outcomes, "")


def _plan(found: FoundRecords, outcomes: list[ImportedDevice], import_id: str) -> ImportPlan:
    counts = Counter(one.outcome for one in outcomes)
    return ImportPlan(
        found.source,
        found.release,
        import_id,
        outcomes,
        {name: counts[name] for name in ("added", "exists", "differs", "refused")},
        found.pending,
    )


async def _import(
    approval: ApprovalClient, import_id: str, devices: Sequence[ImportDevice]
) -> list[ImportedDevice]:
    """Import all devices part by part; an error says how many were imported before it."""
    done: list[ImportedDevice] = []
    for part in _parts(devices):
        try:
            done += await _import_part(approval, ImportPart(import_id, part))
        except CommandError as error:
            unknown = isinstance(error, OutcomeUnknown | Unreachable)
            error.message = (
                f"{error.message}. {_count(done, 'added')} of {len(devices)} devices were imported"
                + (f"; whether the next {len(part)} were is unknown" if unknown else "")
                + "."
            )
            error.advice = (*error.advice, "Run the command again: it adds what is missing.")
            raise
    return done


async def _import_part(approval: ApprovalClient, part: ImportPart) -> list[ImportedDevice]:
    for tries in range(1, TRIES_LIMIT + 1):
        try:
            return (await approval.import_part(part)).devices
        except (OutcomeUnknown, Unreachable):
            if tries == TRIES_LIMIT:
                raise
            await asyncio.sleep(RETRY_SECONDS)
    raise AssertionError


def _parts(devices: Sequence[ImportDevice]) -> Iterator[list[ImportDevice]]:
    """Yield the devices in parts that fit into one call."""
    part: list[ImportDevice] = []
    size = 0
    for device in devices:
        length = len(msgspec.json.encode(device)) + 1
        if part and (size + length > PART_LIMIT_BYTES or len(part) == PART_LIMIT_DEVICES):
            yield part
            part, size = [], 0
        part.append(device)
        size += length
    if part:
        yield part


def _added(
    devices: Sequence[ImportDevice], outcomes: Sequence[ImportedDevice]
) -> list[ImportDevice]:
    added = {one.device_id for one in outcomes if one.outcome == "added"}
    return [one for one in devices if one.device_id in added]


def _result(
    found: FoundRecords, plan: ImportPlan, done: list[ImportedDevice], import_id: str
) -> ImportPlan:
    others = [one for one in plan.devices if one.outcome != "added"]
    return _plan(found, [*done, *others], import_id)


def _count(outcomes: Sequence[ImportedDevice], outcome: str) -> int:
    return sum(one.outcome == outcome for one in outcomes)


def _show_plan(output: Output, found: FoundRecords, plan: ImportPlan) -> None:
    """Print the plan, and the devices that deserve a look."""
    by_id = {one.device_id: one for one in found.devices}
    output.line(f"Pairing records of OpenClaw ({safe(plan.release)}) in {safe(plan.source)}:")
    for outcome, text in _OUTCOMES.items():
        if plan.counts[outcome]:
            output.line(f"{plan.counts[outcome]:>7} {text}")
    if plan.pending:
        output.line(f"{plan.pending:>7} pending, not imported: these devices ask again")
    for outcome, text in _OUTCOMES.items():
        shown = [one for one in plan.devices if one.outcome == outcome]
        if shown:
            rows = [_row(one, by_id.get(one.device_id)) for one in shown[:SHOWN_DEVICES]]
            output.line()
            title = f"{text[0].upper()}{text[1:]}"
            output.table(title, ("Device", "Name", "Rights", "Note"), rows)
            if len(shown) > SHOWN_DEVICES:
                output.line(f"and {len(shown) - SHOWN_DEVICES} more; --json lists all")
    output.line()


def _row(outcome: ImportedDevice, device: ImportDevice | None) -> list[str]:
    if device is None:
        return [beginning(outcome.device_id, ID_CHARACTERS), "", "", outcome.why]
    notes = [
        outcome.why,
        "grants full control" if outcome.grants_admin else "",
        _RETURNS.get(outcome.returns_with, ""),
        *(f"unknown scope {one}" for one in device.scopes if _is_unknown(one)),
    ]
    return [
        beginning(device.device_id, ID_CHARACTERS),
        device.operator_label or device.display_name or device.client_id,
        "\n".join([", ".join(device.roles), *device.scopes]),
        "\n".join(filter(None, notes)),
    ]


def _is_unknown(scope: str) -> bool:
    return scope.startswith("operator.") and scope not in SCOPES


def _show_result(output: Output, result: ImportPlan) -> None:
    added = [one for one in result.devices if one.outcome == "added"]
    output.line(f"Devices imported: {len(added)} (import {result.import_id} in the audit log)")
    counts: Counter[object] = Counter(one.returns_with for one in added)
    for way, text in _RETURN.items():
        if counts[way]:
            output.line(f"{text}: {counts[way]}")
    late = [one for one in result.devices if one.outcome == "refused" and one.why]
    if late:
        output.line(f"Impossible to import: {len(late)}")
