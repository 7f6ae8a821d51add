"""Waiting for a device after its approval."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import pytest
from msgspec import UNSET

from services.approval.schemas.devices import PairedDevice
from services.cli import wait_online
from tests.unit.cli.fake_api import paired

if TYPE_CHECKING:
    from services.cli.client import ApprovalClient


class Client:
    """An approval that reports these states of the device, the last one for ever."""

    def __init__(self, *states: PairedDevice) -> None:
        self._states = list(states)

    async def device(self, _device_id: str) -> PairedDevice:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


def device(*replicas: str, seen: bool = True) -> PairedDevice:
    state = msgspec.convert(paired(), PairedDevice)
    return msgspec.structs.replace(
        state,
        connected=bool(replicas),
        replicas=list(replicas),
        last_seen_at_ms=1 if seen else UNSET,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_online, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(wait_online, "RETURN_SECONDS", 0.05)


async def wait_for(*states: PairedDevice) -> wait_online.Online | None:
    client = cast("ApprovalClient", Client(*states))
    return await wait_online.until_online(client, "device", None, 10.0)


async def test_a_device_that_returns_at_once_is_online() -> None:
    online = await wait_for(device(seen=False), device(), device("replica"))
    assert online is not None
    assert online.replica == "replica"


async def test_a_device_that_stays_away_has_disconnected() -> None:
    online = await wait_for(device(seen=False), device())
    assert online is not None
    assert online.replica is None
