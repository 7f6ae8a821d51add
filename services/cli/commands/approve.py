"""`latchkey devices approve` and `reject`: the request shown is approved by its id."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Final

import click
import msgspec
from msgspec import UNSET

from services.cli.context import Context, with_context
from services.cli.errors import ApiError, CommandError, Misused
from services.cli.exits import Exit
from services.cli.invocation import Command, typed
from services.cli.resolve import limit_key_typed, request_named
from services.cli.text import rows as showing
from services.cli.text.words import replica_name
from services.cli.wait_online import WAIT_SECONDS, Online, asks_again, until_online

if TYPE_CHECKING:
    from services.approval.schemas import devices
    from services.cli.client import ApprovalClient

NOT_UNSEEN: Final = (
    "--latest --yes would approve a request unseen; another request may be newer than yours"
)


class Preview(msgspec.Struct, rename="camel", frozen=True):
    """A request, and the command that approves it."""

    selected: devices.WaitingRequest
    approve_command: str


class Done(msgspec.Struct, rename="camel", frozen=True):
    """An approval; `online` is null if the device was not awaited or did not connect."""

    request_id: str
    device: devices.PairedDevice
    online: Online | None


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey devices approve --latest           show the newest request and ask
  latchkey devices approve 220dd984           show this request and ask
  latchkey devices approve 220dd984-79b3-4860-a084-c16f321f9dec --yes
""",
)
@click.argument("request_id", metavar="[REQUEST-ID]", required=False)
@click.option("--latest", is_flag=True, help="Select the newest request and show it first.")
@click.option(
    "--yes",
    is_flag=True,
    help="Do not ask, even to grant full control (operator.admin). Requires a full REQUEST-ID.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait for the device to connect.")
@click.option(
    "--wait",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    default=WAIT_SECONDS,
    show_default=True,
    help="How long to wait for the device.",
)
@with_context
async def approve(
    context: Context,
    *,
    request_id: str | None,
    latest: bool,
    yes: bool,
    no_wait: bool,
    seconds: float,
) -> int:
    """Approve a pairing request.

    Shows the request and asks for confirmation, and asks again before granting or restoring full
    control (operator.admin). Without --yes, the first eight characters of a REQUEST-ID suffice.
    """
    if latest and yes:
        command = typed("devices approve REQUEST-ID --yes")
        raise Misused(
            "latest-is-not-a-name", NOT_UNSEEN, f"Name the request you reviewed: {command}"
        )
    if latest == (request_id is not None):
        shows = f"`{typed('devices list')}` lists the pending requests."
        raise Misused("which-request", "name a request or use --latest", shows)
    async with context.approval() as approval:
        selected, known = await _selected(approval, request_id)
        if selected is None:
            return await _approve_again(context, approval, request_id or "")
        if yes and request_id != selected.request_id:
            raise Misused("whole-id", "--yes requires the full request id", selected.request_id)
        seconds = 0 if no_wait else seconds
        return await _approve(context, approval, selected, known, yes=yes, seconds=seconds)


async def _approve(
    context: Context,
    approval: ApprovalClient,
    selected: devices.WaitingRequest,
    known: devices.PairedDevice | None,
    *,
    yes: bool,
    seconds: float,
) -> int:
    """Show the request, ask for confirmation, approve it, and wait for the device."""
    output = context.output
    command = typed(f"devices approve {selected.request_id} --yes")
    if output.as_json and not yes:
        output.document(Preview(selected, command))
        return Exit.NOT_CONFIRMED
    if not output.as_json:
        rows = showing.request_rows(selected, known, now_ms=_now_ms())
        output.block(f"Request {selected.request_id}", rows)
        if showing.needs_care(selected):
            output.line(showing.MARKED, "yellow")
    context.confirm("Approve this device?", yes=yes, how=command)
    admin = showing.gives_admin(selected)
    if admin and not yes:
        output.aside(showing.ADMIN, "yellow")
        context.confirm("Approve it with full control?", yes=yes, how=command)
    try:
        approved = await approval.approve(selected.request_id, allow_admin=yes or admin)
    except ApiError as refused:
        raise _explain_grants_admin(refused, selected.request_id) from None
    if not output.as_json:
        name = showing.name_of(approved.device)
        output.line(f"Approved {name} ({selected.request_id}).", "green")
    online = None
    if seconds:
        output.aside(
            f"Waiting up to {seconds:g} s. If it does not reconnect, run its command again ...",
            "dim",
        )
        online = await until_online(approval, selected.device_id, known, seconds)
    if output.as_json:
        output.document(Done(approved.request_id, approved.device, online))
    elif seconds:
        await _print_online(context, approval, selected, online, seconds)
    return Exit.OK


async def _print_online(
    context: Context,
    approval: ApprovalClient,
    request: devices.WaitingRequest,
    online: Online | None,
    seconds: float,
) -> None:
    say = context.output.line
    if online is not None and online.replica is not None:
        where = replica_name(online.replica)
        say(f"Online at {where} {online.after_ms / 1000:.0f} s after approval.", "green")
        return
    if online is not None:
        say(f"Connected {online.after_ms / 1000:.0f} s after approval, and disconnected again.")
        return
    try:
        again = await asks_again(approval, request.device_id)
    except CommandError:
        again = None
    if again is not None:
        say("The device has sent a different request. Review it:")
        say("  " + typed(f"devices approve {again.request_id}"))
        return
    say(f"The device is approved but has not connected within {seconds:g} s.")
    say("Press Connect in its dashboard, or run its command again.")


async def _selected(
    approval: ApprovalClient, request_id: str | None
) -> tuple[devices.WaitingRequest | None, devices.PairedDevice | None]:
    """Return the selected request, None if it is not pending, and its device if paired."""
    pending = await approval.pending()
    if request_id is not None:
        selected = request_named(request_id, pending)
    elif not pending:
        raise ApiError("nothing-waits", "no request is pending", "Have the device connect again.")
    else:
        selected = pending[0]
    if selected is None:
        return None, None
    return selected, await approval.device(selected.device_id)


async def _approve_again(context: Context, approval: ApprovalClient, request_id: str) -> int:
    """Approve a request that is not pending; approval tells whether it was already approved."""
    try:
        approved = await approval.approve(request_id)
    except ApiError as refused:
        raise _explain_unknown(refused) from None
    if context.output.as_json:
        context.output.document(Done(approved.request_id, approved.device, None))
    else:
        context.output.line(f"{showing.name_of(approved.device)} was already approved.", "green")
    return Exit.OK


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey devices reject 220dd984
  latchkey devices reject --from 203.0.113.9     show all from one address and ask
""",
)
@click.argument("request_id", metavar="[REQUEST-ID]", required=False)
@click.option(
    "--from", "address", metavar="ADDRESS", help="All requests from this address (IPv6: its /64)."
)
@click.option(
    "--yes", is_flag=True, help="Do not ask. A single request is rejected without asking."
)
@with_context
async def reject(
    context: Context, *, request_id: str | None, address: str | None, yes: bool
) -> None:
    """Reject a request, or all from an address.

    The devices may ask again.
    """
    if (request_id is None) == (address is None):
        raise Misused("which-request", "name a request, or an address with --from", _list_hint())
    async with context.approval() as approval:
        if address is not None:
            await _reject_all(context, approval, address, yes=yes)
            return
        request_id = request_id or ""
        selected = request_named(request_id, await approval.pending())
        try:
            rejected = await approval.reject(selected.request_id if selected else request_id)
        except ApiError as refused:
            raise _explain_unknown(refused) from None
    if context.output.as_json:
        context.output.document(rejected)
    else:
        context.output.line(f"Rejected {rejected.device_id}.")


async def _reject_all(
    context: Context, approval: ApprovalClient, address: str, *, yes: bool
) -> None:
    """Show the pending requests from an address, ask, and reject exactly those."""
    output = context.output
    try:
        found = await approval.pending_from(limit_key_typed(address))
    except ValueError:
        raise Misused("no-address", "that is not an IP address", _list_hint()) from None
    if not found.pending:
        raise ApiError("nothing-waits", f"no request from {address} is pending", _list_hint())
    count = len(found.pending)
    many = f"{count} request{'' if count == 1 else 's'}"
    if not output.as_json:
        columns = ("request", "device", "asks for", "from", "asked")
        rows = [showing.pending_row(request, _now_ms()) for request in found.pending]
        output.table(f"Pending from {address} ({count})", columns, rows)
        if found.total is not UNSET and found.total > count:
            output.aside(
                f"These are the newest of {found.total}; the others stay pending.", "yellow"
            )
    command = typed(f"devices reject --from {shlex.quote(address)} --yes")
    context.confirm(f"Reject {'this' if count == 1 else 'these'} {many}?", yes=yes, how=command)
    done = await approval.reject_all([request.request_id for request in found.pending])
    if output.as_json:
        output.document(done)
        return
    left = f" {len(done.ended)} were no longer pending." if done.ended else ""
    output.line(f"Rejected {len(done.rejected)} of {many} from {address}.{left}")


def _list_hint() -> str:
    return f"`{typed('devices list')}` lists the pending requests."


def _explain_grants_admin(refused: ApiError, request_id: str) -> ApiError:
    """Explain that the request grants full control now but did not when it was shown."""
    if refused.name != "grants-admin":
        return refused
    return ApiError(
        refused.name,
        "the request now includes full control, which it did not when it was shown",
        "Nothing was changed. Review it again: " + typed(f"devices approve {request_id}"),
    )


def _explain_unknown(refused: ApiError) -> ApiError:
    """Explain an unknown request id."""
    if refused.name != "unknown-request":
        return refused
    return ApiError(
        refused.name,
        "no pending request has this id",
        f"`{typed('devices list')}` lists the pending requests. Device ids are different."
        " Requests expire after an hour without a retry.",
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
