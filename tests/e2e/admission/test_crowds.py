"""Many attempts from one address, spread over replicas: guesses and pairing requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
import redis as redis_py

from shared.device.identity import DeviceKey
from tests.e2e.crowd import client_at, outcome_of
from tools.support.actors import Operator, pair
from tools.support.processes.process_table import peak_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

FAILURES_LIMIT: Final = 10
GUESSES: Final = 1_000
AT_ONCE: Final = 30
"""Below the limit of unauthenticated connections per address at one gateway."""
PER_ADDRESS: Final = 10
PENDING_LIMIT: Final = 25
FLOOD: Final = 300
MORE_MEMORY_BYTES: Final = 32_000_000


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and three gateways, behind a proxy that forwards client addresses."""
    return start_stack(
        approvals=2,
        gateways=3,
        env={"TRUSTED_PROXIES": "127.0.0.1"},
        approval_env={
            "PENDING_LIMIT": str(PENDING_LIMIT),
            "PENDING_LIMIT_PER_ADDRESS": str(PER_ADDRESS),
        },
    )


def peak_memory(services: Iterable[ServiceProcess]) -> dict[str, int]:
    """Return the peak memory of each process, in bytes."""
    return {service.name: peak_memory_bytes(service.pid) for service in services}


class Crowd:
    """Connects from one address, using the gateways in turn."""

    def __init__(self, stack: Stack, address: str) -> None:
        self._stack = stack
        self._address = address
        self._attempts = 0

    async def attempt(
        self, *, key: DeviceKey | None = None, token: str = "", device_token: str | None = None
    ) -> str:
        """Connect once, with the right gateway token or this one; returns the outcome."""
        gateway = self._attempts % len(self._stack.gateways)
        self._attempts += 1
        return await outcome_of(
            client_at(
                self._stack,
                self._address,
                key,
                gateway=gateway,
                token=token,
                device_token=device_token,
            )
        )

    async def strangers(self, count: int) -> Counter[str]:
        """Send requests for this many new devices, some at a time."""
        return await self._all([DeviceKey.generate() for _ in range(count)])

    async def guesses(self, count: int, key: DeviceKey | None, *, beside: bool) -> Counter[str]:
        """Guess the gateway token this often; `beside` adds a guessed device token."""
        seen: Counter[str] = Counter()
        for start in range(0, count, AT_ONCE):
            seen.update(
                await asyncio.gather(
                    *(
                        self.attempt(
                            key=key,
                            token=f"guess {number}",
                            device_token=f"guessed {number}" if beside else None,
                        )
                        for number in range(start, min(start + AT_ONCE, count))
                    )
                )
            )
        return seen

    async def _all(self, keys: Sequence[DeviceKey]) -> Counter[str]:
        seen: Counter[str] = Counter()
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            seen.update(await asyncio.gather(*(self.attempt(key=key) for key in some)))
        return seen


class TestGuessesAreCountedAcrossGateways:
    @pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a device token"])
    async def test_a_thousand_wrong_tokens_at_three_gateways_lock_out_after_ten(
        self, stack: Stack, *, beside: bool
    ) -> None:
        """The lock-out comes after ten in all, not after ten at each."""
        crowd = Crowd(stack, f"192.0.2.{10 + beside}")
        key = DeviceKey.generate() if beside else None
        seen = await crowd.guesses(GUESSES, key, beside=beside)
        wrong = "AUTH_DEVICE_TOKEN_MISMATCH" if beside else "AUTH_TOKEN_MISMATCH"
        assert seen == {wrong: FAILURES_LIMIT, "AUTH_RATE_LIMITED": GUESSES - FAILURES_LIMIT}
        for _gateway in stack.gateways:
            assert await crowd.attempt() == "AUTH_RATE_LIMITED", (
                "a right token is indistinguishable"
            )
        for _gateway in stack.gateways:
            assert await Crowd(stack, "198.51.100.1").attempt() == "admitted"

    async def test_a_right_device_token_is_no_way_around_it(self, stack: Stack) -> None:
        device = await pair(stack)
        crowd = Crowd(stack, "192.0.2.12")
        for number in range(2 * FAILURES_LIMIT):
            token = f"guess {number}"
            came = await crowd.attempt(key=device.key, token=token, device_token=device.token)
            assert came == "admitted"
        assert await crowd.attempt() == "AUTH_RATE_LIMITED"


class TestRequestFloods:
    async def test_a_flood_displaces_only_its_own(self, stack: Stack) -> None:
        victim = DeviceKey.generate()
        assert await Crowd(stack, "198.51.100.1").attempt(key=victim) == "PAIRING_REQUIRED"
        async with Operator(stack, stack.approvals[0]) as operator:
            (shown,) = await operator.pending()
            await Crowd(stack, "203.0.113.1").strangers(FLOOD // 3)  # the baseline of a process
            before = peak_memory(stack.services)
            seen = await Crowd(stack, "203.0.113.9").strangers(FLOOD)
            assert seen.keys() <= {"PAIRING_REQUIRED", "UNAVAILABLE"}
            for last in range(2, 6):
                await Crowd(stack, f"203.0.113.{last}").strangers(PER_ADDRESS)
            grown = {name: now - before[name] for name, now in peak_memory(stack.services).items()}
            assert max(grown.values()) < MORE_MEMORY_BYTES, grown
            pending = await operator.pending()
            assert len(pending) <= PENDING_LIMIT
            assert shown["requestId"] in {request["requestId"] for request in pending}
            addresses = Counter(request["remoteIp"] for request in pending)
            assert max(addresses.values()) <= PER_ADDRESS
            assert self._records(stack) == len(pending) + len(await operator.devices())
            (await operator.approve(shown["requestId"])).ok()
        assert await Crowd(stack, "198.51.100.1").attempt(key=victim) == "admitted"

    def _records(self, stack: Stack) -> int:
        with redis_py.Redis.from_url(stack.redis.admin_url) as client:
            return len(list(client.scan_iter("latchkey:device:*", count=1_000)))
