"""A wrong gateway token beside a right device token: it counts, and the device is admitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from services.approval.domain.lockout import (
    FAILURES_LIMIT,
)
from shared.rpc.messages import (
    DEVICE_TOKEN,
    SHARED_SECRET,
    Admitted,
    LockedOut,
    NeedsPairing,
    SecretAccepted,
)
from tests.integration.approval.lockouts.guessing import GUESSED, TWICE, Counter, Dispatchers, asks
from tests.support.approval.devices import READ, Device

if TYPE_CHECKING:
    from tests.integration.approval.replica import Replica


class TestBesideARightDeviceToken:
    """A wrong gateway token counts there too; the device is admitted nevertheless."""

    @pytest.fixture
    async def device(self, here: Replica) -> Device:
        return await here.paired()

    @pytest.fixture
    async def token(self, here: Replica, device: Device) -> str:
        return (await here.admit(device.asks(READ))).device_token

    async def test_ten_wrong_tokens_lock_out_the_gateway_token_but_not_the_device(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for number in range(2 * FAILURES_LIMIT):
            answer = await dispatchers.ask(asks(device, number, token=token, **GUESSED))
            assert isinstance(answer, Admitted)
        assert isinstance(await dispatchers.report_secret(right=True), LockedOut)
        assert isinstance(await dispatchers.ask(asks(device, 99)), LockedOut)
        assert isinstance(await dispatchers.ask(asks(device, 100, token=token)), Admitted)

    async def test_nine_wrong_tokens_do_not_lock(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for number in range(FAILURES_LIMIT - 1):
            await dispatchers.ask(asks(device, number, token=token, **GUESSED))
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)

    async def test_a_wrong_token_of_a_device_that_needs_approval_counts_too(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for number in range(FAILURES_LIMIT):
            question = asks(device, number, token=token, **GUESSED)
            other = msgspec.structs.replace(question.client, platform="windows")
            answer = await dispatchers.ask(msgspec.structs.replace(question, client=other))
            assert isinstance(answer, NeedsPairing)
        assert isinstance(await dispatchers.report_secret(right=True), LockedOut)

    async def test_a_retry_of_the_same_connection_counts_once(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for _ in range(2 * FAILURES_LIMIT):
            await dispatchers.ask(asks(device, 1, token=token, **GUESSED))
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)

    async def test_the_device_token_in_both_fields_never_counts(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for number in range(2 * FAILURES_LIMIT):
            await dispatchers.ask(asks(device, number, token=token, **TWICE))
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)

    @pytest.mark.parametrize("field", ["token", "deviceToken"])
    async def test_success_clears_only_the_credential_that_was_proven(
        self, dispatchers: Dispatchers, here: Replica, device: Device, token: str, field: str
    ) -> None:
        """Otherwise the holder of a device token could guess the gateway token forever."""
        counter = Counter(here)
        await counter.fail(SHARED_SECRET, DEVICE_TOKEN, times=FAILURES_LIMIT - 1)
        question = asks(device, 1, token=token, **TWICE)
        question = msgspec.structs.replace(question, candidate_field=field)
        assert isinstance(await dispatchers.ask(question), Admitted)
        assert list(await counter.held()) == [SHARED_SECRET]

    async def test_a_right_gateway_token_is_indistinguishable_during_a_lock_out(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        """Otherwise the holder of a device token could keep guessing during the lock-out."""
        right: dict[str, Any] = {"method": "token"}
        first = await dispatchers.ask(asks(device, 1, token=token, **right))
        assert isinstance(first, Admitted)
        assert first.method == "token"
        for _ in range(FAILURES_LIMIT):
            await dispatchers.report_secret(right=False)
        for number, secret in enumerate([right, GUESSED], start=2):
            answer = await dispatchers.ask(asks(device, number, token=token, **secret))
            assert isinstance(answer, Admitted)
            assert answer.method == "device-token"
        for number, secret in enumerate([right, GUESSED], start=4):
            answer = await dispatchers.ask(asks(device, number, token="guess", **secret))
            assert isinstance(answer, LockedOut)
