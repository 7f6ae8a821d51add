"""Lists targets, and sends test notifications; for the HTTP API."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from services.approval.domain import authorization
from services.approval.domain.errors import UnknownWebhook
from services.approval.domain.permissions import Permission
from services.approval.notifications import event as events
from services.approval.notifications.collecting import member_of
from services.approval.notifications.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.domain.authorization import Caller
    from services.approval.notifications.settings import WebhookSettings
    from services.approval.notifications.targets import Target
    from services.approval.storage.webhooks import TargetRecord, WebhookStore


@dataclass(frozen=True, slots=True)
class ListedTarget:
    """A target, how many notifications wait, since when (0: none waits), and what is recorded."""

    target: Target
    queued: int
    oldest_at_ms: int
    record: TargetRecord


class WebhookService:
    """The configured targets. Every method may raise RegistryError."""

    def __init__(
        self, settings: WebhookSettings, store: WebhookStore, now_ms: Callable[[], int]
    ) -> None:
        self._targets = settings.targets
        self._store = store
        self._now_ms = now_ms

    async def list(self, caller: Caller) -> list[ListedTarget]:
        """Return the state of all targets, in the order of WEBHOOK_TARGETS."""
        authorization.require_operator(caller, Permission.VIEW)
        listed = []
        for target in self._targets:
            found = await self._store.waiting(target.key)
            listed.append(ListedTarget(target, found.length, _time_of(found.first), found.record))
        return listed

    async def test(self, caller: Caller, name: str) -> tuple[Target, str]:
        """Queue a test notification; return its target and id."""
        authorization.require_operator(caller, Permission.MANAGE)
        target = next((one for one in self._targets if one.name == name), None)
        if target is None:
            raise UnknownWebhook
        event = Event(
            id=f"msg_{secrets.token_hex(16)}",
            type=events.TEST,
            at_ms=self._now_ms(),
            actor=caller.name,
        )
        await self._store.append([target.key], member_of(event))
        return target, event.id


def _time_of(member: bytes) -> int:
    try:
        return events.decode(member[1:]).at_ms if member else 0
    except msgspec.MsgspecError:
        return 0
