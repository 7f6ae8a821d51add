"""Operations on targets of notifications: `/v1/webhooks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.approval.schemas.webhooks import (
    TestedWebhook,
    WebhookList,
    tested_webhook,
    webhook_list,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import msgspec

    from services.approval.api.calls import Call
    from services.approval.notifications.service import WebhookService


class WebhookRoutes:
    """Implements the operations on targets of notifications."""

    def __init__(self, webhooks: WebhookService) -> None:
        self._webhooks = webhooks
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "listWebhooks": self._list,
            "testWebhook": self._test,
        }

    async def _list(self, call: Call) -> WebhookList:
        return webhook_list(await self._webhooks.list(call.caller))

    async def _test(self, call: Call) -> TestedWebhook:
        return tested_webhook(*await self._webhooks.test(call.caller, call.ids.webhook_name))
