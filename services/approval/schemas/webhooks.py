"""JSON objects about the targets of notifications. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.records import Count, Milliseconds  # noqa: TC001 (msgspec reads it)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.notifications.service import ListedTarget
    from services.approval.notifications.targets import Target

WebhookName = Annotated[str, Meta(pattern=r"^(json|slack|discord|ntfy)-[0-9]{1,2}$")]


class WebhookObject(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A target of notifications. Its address is a secret and never shown."""

    name: str
    format: Literal["json", "slack", "discord", "ntfy"]
    host: str
    queued: Annotated[Count, Meta(description="Notifications that wait to be delivered.")] = 0
    oldest_at_ms: (
        Annotated[Milliseconds, Meta(description="Event of the oldest that waits.")] | UnsetType
    ) = UNSET
    delivered: Count = 0
    dropped: Annotated[Count, Meta(description="Because the queue was full.")] = 0
    given_up: Annotated[
        Count, Meta(description="Not delivered within 3 days, or rejected by the target.")
    ] = 0
    last_delivered_at_ms: Milliseconds | UnsetType = UNSET
    last_delivered_id: str | UnsetType = UNSET
    failing_since_ms: (
        Annotated[Milliseconds, Meta(description="Absent: the last attempt succeeded.")] | UnsetType
    ) = UNSET
    attempts: Annotated[Count, Meta(description="Failed attempts with the oldest.")] = 0
    retry_at_ms: Milliseconds | UnsetType = UNSET
    last_error: str | UnsetType = UNSET
    last_error_at_ms: Milliseconds | UnsetType = UNSET


class WebhookList(msgspec.Struct, frozen=True):
    """The targets, in the order of WEBHOOK_TARGETS."""

    webhooks: list[WebhookObject]


class TestedWebhook(msgspec.Struct, rename="camel", frozen=True):
    """A test notification was queued; `lastDeliveredId` of the target becomes its id."""

    name: str
    notification_id: str


def webhook_list(found: Sequence[ListedTarget]) -> WebhookList:
    """Return the JSON objects of all targets."""
    return WebhookList([_object(one) for one in found])


def tested_webhook(target: Target, notification_id: str) -> TestedWebhook:
    """Return the JSON object of a queued test notification."""
    return TestedWebhook(target.name, notification_id)


def _object(one: ListedTarget) -> WebhookObject:
    record = one.record
    return WebhookObject(
        name=one.target.name,
        format=one.target.form,
        host=one.target.host,
        queued=one.queued,
        oldest_at_ms=one.oldest_at_ms or UNSET,
        delivered=record.delivered,
        dropped=record.dropped,
        given_up=record.given_up,
        last_delivered_at_ms=record.delivered_at_ms or UNSET,
        last_delivered_id=record.delivered_id or UNSET,
        failing_since_ms=record.failing_since_ms or UNSET,
        attempts=record.attempts,
        retry_at_ms=record.retry_at_ms or UNSET,
        last_error=record.error or UNSET,
        last_error_at_ms=record.error_at_ms or UNSET,
    )
