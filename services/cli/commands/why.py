"""`latchkey devices why`: list recent refusals, with reasons and remedies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click
import msgspec

from services.cli.context import Context, with_context
from services.cli.errors import ApiError
from services.cli.invocation import Command, typed
from services.cli.resolve import matches_id
from services.cli.text import refusals as refusal_words
from services.cli.text import rows

if TYPE_CHECKING:
    from services.approval.schemas import devices as objects
    from services.approval.schemas.refusals import Refusal

MAX_REFUSALS: Final = 200
"""Maximum number of refusals that one API call returns."""


class Why(msgspec.Struct, frozen=True):
    """The matching requests and paired devices, and their refusals, newest first."""

    pending: list[objects.WaitingRequest]
    devices: list[objects.PairedDevice]
    refusals: list[Refusal]


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey devices why                    all refusals of the last day
  latchkey devices why eb62a6715dee
  latchkey devices why "Kitchen Mac"
  latchkey devices why 203.0.113.7
""",
)
@click.argument("who", metavar="[DEVICE|REQUEST-ID|NAME|ADDRESS]", required=False)
@click.option("--limit", type=click.IntRange(1, MAX_REFUSALS), default=20, show_default=True)
@with_context
async def why(context: Context, *, who: str | None, limit: int) -> None:
    """Show why a device cannot connect.

    Shows its refusals of the last day, and what to do. Name a device by its id or at least
    the first eight characters, its request id, its name or its address. If several devices match,
    all of them are shown.
    """
    async with context.approval() as approval:
        found = Why(await approval.pending(), await approval.devices(), [])
        recent = await approval.refusals(limit=MAX_REFUSALS)
        if who is not None:
            found = _meant(who, found, recent)
            named = _device_ids(found)
            for device_id in sorted(named - {refusal.device_id for refusal in found.refusals}):
                found.refusals.extend(await approval.refusals(device_id, limit=MAX_REFUSALS))
        else:
            found = Why([], [], recent)
    shown = Why(found.pending, found.devices, found.refusals[:limit])
    if context.output.as_json:
        context.output.document(shown)
    elif who is None:
        _list(context, shown.refusals)
    else:
        _explain(context, shown)


def _meant(who: str, found: Why, recent: list[Refusal]) -> Why:
    """Return the matches: by id, else by address, else by name."""
    lower = who.lower()
    for matches in (
        lambda item: matches_id(lower, item.device_id or "") or matches_id(who, _request_id(item)),
        lambda item: item.remote_ip == lower,
        lambda item: lower in refusal_words.names_of(item),
    ):
        refusals = list(filter(matches, recent))
        named = {refusal.device_id for refusal in refusals if refusal.device_id}
        pending = [
            request for request in found.pending if matches(request) or request.device_id in named
        ]
        devices = [
            device for device in found.devices if matches(device) or device.device_id in named
        ]
        if pending or devices or refusals:
            meant = Why(pending, devices, refusals)
            known = _device_ids(meant)
            refusals += [
                refusal
                for refusal in recent
                if refusal.device_id in known and refusal not in refusals
            ]
            return meant
    raise ApiError(
        "not-refused",
        "no device, request or refusal of the last day matches this",
        "If it is trying to connect now, run this again in a few seconds. If it stays unknown, its",
        "attempts do not reach a gateway: run `" + typed("doctor WSS-URL") + "`.",
    )


def _device_ids(found: Why) -> set[str]:
    return {request.device_id for request in found.pending} | {
        device.device_id for device in found.devices
    }


def _request_id(item: objects.WaitingRequest | objects.PairedDevice | Refusal) -> str:
    return getattr(item, "request_id", "")


def _list(context: Context, refusals: list[Refusal]) -> None:
    output, now_ms = context.output, time.time_ns() // 1_000_000
    if not refusals:
        output.line("No refusals in the last day.")
        return
    output.table(
        "Refused in the last day, newest first",
        ("device", "client", "reason", "from", "when"),
        [refusal_words.row(refusal, now_ms) for refusal in refusals],
    )
    output.line("What to do:", "dim")
    output.line("  " + typed("devices why DEVICE"), "dim")


def _explain(context: Context, found: Why) -> None:
    output, now_ms = context.output, time.time_ns() // 1_000_000
    for request in found.pending:
        output.line(f"{rows.name_of(request)}: waiting for approval. To approve it:")
        output.line("  " + typed(f"devices approve {request.request_id}"))
    for device in found.devices:
        standing = rows.standing(device, now_ms).replace("\n", ", ")
        output.line(f"{rows.name_of(device)}: paired. {standing}.")
    for refusal in found.refusals:
        output.line()
        output.block(refusal_words.heading(refusal, now_ms), refusal_words.rows(refusal, now_ms))
    if not found.refusals:
        output.line(
            "No gateway refused it in the last day. If it cannot connect, its attempts do not"
        )
        output.line("reach a gateway:")
        output.line("  " + typed("doctor WSS-URL"))
