"""A replica's notifier for tests: it retries within milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from typing import TYPE_CHECKING, Any, Final

from services.approval.metrics import Metrics
from services.approval.notifications.notifier import Notifier
from services.approval.notifications.retry import RetryPolicy
from services.approval.notifications.settings import WebhookSettings, read_webhooks
from services.approval.storage.store import Store
from services.approval.storage.webhooks import WebhookStore
from shared.clock import SystemClock
from shared.redis.access import make_client
from shared.settings.environment import SettingsReader
from tests.support.webhook_receiver import new_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.webhook_receiver import Receiver

PUBLIC_URL: Final = "https://approval.example"
POLICY: Final = RetryPolicy(first_ms=20, most_ms=60, give_up_ms=60_000)


def settings_for(
    *targets: str, keys: tuple[str, ...] = (), private: bool = True
) -> WebhookSettings:
    """Return settings as read from the environment."""
    reader = SettingsReader(
        {
            "WEBHOOK_TARGETS": ",".join(targets),
            "WEBHOOK_SECRETS": ",".join(keys or (new_secret(),)),
            "WEBHOOK_PRIVATE_ADDRESSES": "yes" if private else "no",
        }
    )
    found = read_webhooks(reader)
    reader.finish()
    return found


def settings_of(*receivers: Receiver) -> WebhookSettings:
    """Return settings with a json target for each receiver, signed with the first one's secrets."""
    return settings_for(*(f"json+{one.url()}" for one in receivers), keys=receivers[0].secrets)


class Delivery:
    """A running notifier with its metrics and store."""

    def __init__(self, notifier: Notifier, metrics: Metrics, store: WebhookStore) -> None:
        self.notifier: Final = notifier
        self.metrics: Final = metrics
        self.store: Final = store

    def count(self, name: str, **labels: str) -> float:
        """Return the value of a metric; 0 if it is absent."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds that cannot be awaited."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (metrics)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def delivering(
    redis_url: str, settings: WebhookSettings, **options: Any
) -> AsyncIterator[Delivery]:
    """Run a notifier that has begun to deliver, if no other one does."""
    client = make_client(redis_url, max_connections=4, timeout_seconds=2.0)
    clock, metrics = SystemClock(), Metrics()
    queues = WebhookStore(client, secrets.token_hex(8))
    times = Store(client, clock)
    await times.liveness.write_alive("clock")
    notifier = Notifier(
        settings,
        queues,
        public_url=PUBLIC_URL,
        metrics=metrics,
        clock=clock,
        now_ms=times.now_ms,
        chance=random.Random(),
        **{"policy": POLICY, "attempt_seconds": 0.5, **options},
    )
    task = asyncio.create_task(notifier.run())
    try:
        async with asyncio.timeout(5):
            while not await client.exists("latchkey:webhooks:state"):  # noqa: ASYNC110 (Redis)
                await asyncio.sleep(0.01)
        yield Delivery(notifier, metrics, queues)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()
