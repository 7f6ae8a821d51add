"""`latchkey webhooks`: list the targets of notifications, and test them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import click
import msgspec
from msgspec import UNSET

from services.approval.schemas.webhooks import TestedWebhook, WebhookList, WebhookObject
from services.cli.context import Context, with_context
from services.cli.errors import ApiError, Misused
from services.cli.exits import Exit
from services.cli.invocation import Command, Group, typed
from services.cli.text.words import ago, safe

if TYPE_CHECKING:
    from services.cli.client import ApprovalClient

TEST_SECONDS: Final = 15.0
"""How long a test waits for its notification to be delivered: one attempt, and a few ahead."""
LOOK_SECONDS: Final = 0.5
"""Pause between two looks at it."""


class TestResult(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Outcome of a test: `delivered`, `failed` (with `error`) or `waiting`."""

    name: str
    outcome: str
    error: str = ""
    queued: int = 0


class TestResults(msgspec.Struct, frozen=True):
    """Outcome of the test of each target."""

    tests: list[TestResult]


@click.group(cls=Group)
def webhooks() -> None:
    """List and test the targets of notifications (WEBHOOK_TARGETS)."""


@click.command(
    "list", cls=Command, epilog="\b\nExample:\n  latchkey webhooks list --json | jq '.webhooks[]'\n"
)
@with_context
async def list_webhooks(context: Context) -> None:
    """List targets with what waits, the last delivery and the last error."""
    async with context.approval() as approval:
        found = await approval.call("GET", "/v1/webhooks", WebhookList)
    if context.output.as_json:
        context.output.document(found)
        return
    if not found.webhooks:
        context.output.line("No targets. Set WEBHOOK_TARGETS for the approval service.")
        return
    now_ms = time.time_ns() // 1_000_000
    columns = ("target", "host", "waiting", "delivered", "not delivered", "last", "state")
    rows = [_row(one, now_ms) for one in found.webhooks]
    context.output.table(f"Targets ({len(rows)})", columns, rows)
    context.output.line("Send a test notification:", "dim")
    context.output.line("  " + typed("webhooks test"), "dim")


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n  latchkey webhooks test\n  latchkey webhooks test slack-1\n",
)
@click.argument("name", required=False)
@with_context
async def test(context: Context, *, name: str | None) -> None:
    """Send a test notification to target NAME, by default to all, and wait until it arrives."""
    async with context.approval() as approval:
        listed = (await approval.call("GET", "/v1/webhooks", WebhookList)).webhooks
        names = [one.name for one in listed if name in {None, one.name}]
        if not names:
            known = ", ".join(safe(one.name) for one in listed) or "none"
            raise Misused("no-target", f"No such target. Configured: {known}.")
        sent = [
            await approval.call("POST", f"/v1/webhooks/{one}/test", TestedWebhook, {})
            for one in names
        ]
        results = await _await_results(approval, sent)
    missing = [one.name for one in results if one.outcome != "delivered"]
    if context.output.as_json:
        context.output.document(TestResults(results))
        raise click.exceptions.Exit(Exit.REFUSED if missing else Exit.OK)
    for result in results:
        context.output.line(_words(result))
    if missing:
        raise ApiError("not-delivered", f"Not delivered yet: {', '.join(missing)}.", _list_hint())


async def _await_results(approval: ApprovalClient, sent: list[TestedWebhook]) -> list[TestResult]:
    """Wait until each test was delivered or its target has failed."""
    deadline = time.monotonic() + TEST_SECONDS
    results: dict[str, TestResult] = {}
    while True:
        listed = (await approval.call("GET", "/v1/webhooks", WebhookList)).webhooks
        targets = {one.name: one for one in listed}
        for one in sent:
            found = targets.get(one.name)
            if found is not None and one.name not in results:
                result = _result_of(one, found)
                if result.outcome != "waiting" or time.monotonic() >= deadline:
                    results[one.name] = result
        if len(results) == len(sent) or time.monotonic() >= deadline:
            gone = (TestResult(one.name, "waiting") for one in sent)
            return [results.get(one.name, one) for one in gone]
        await asyncio.sleep(LOOK_SECONDS)


def _result_of(sent: TestedWebhook, found: WebhookObject) -> TestResult:
    accepts = found.failing_since_ms is UNSET
    if found.last_delivered_id == sent.notification_id or (accepts and not found.queued):
        return TestResult(sent.name, "delivered")
    if not accepts:
        error = "" if found.last_error is UNSET else found.last_error
        return TestResult(sent.name, "failed", error, found.queued)
    return TestResult(sent.name, "waiting", queued=found.queued)


def _words(result: TestResult) -> str:
    if result.outcome == "delivered":
        return f"{result.name}: delivered"
    if result.outcome == "failed":
        return f"{result.name}: {safe(result.error)}; it is tried again"
    return f"{result.name}: still waiting, {result.queued} in the queue"


def _row(one: WebhookObject, now_ms: int) -> list[str]:
    last = one.last_delivered_at_ms
    error = "" if one.last_error is UNSET else safe(one.last_error)
    failing = one.failing_since_ms is not UNSET
    return [
        one.name,
        safe(one.host),
        str(one.queued),
        str(one.delivered),
        str(one.dropped + one.given_up),
        "never" if last is UNSET else ago(last, now_ms),
        f"failing: {error}" if failing else "ok",
    ]


def _list_hint() -> str:
    return f"`{typed('webhooks list')}` shows the state of each."


for _command in (list_webhooks, test):
    webhooks.add_command(_command)
