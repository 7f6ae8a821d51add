"""Wrong secrets from one address: straight into the store, or asked of replicas."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.storage.keys import guard_key, wrong_values_key
from shared.rpc.messages import (
    SHARED_SECRET,
    Guess,
    ReportSecret,
    decode_answer,
    encode,
)
from shared.rpc.responder import Question, Reply
from tests.support.approval.devices import READ, Device
from tests.support.callbacks import result_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.rpc.messages import Answer, AuthorizeDevice
    from tests.integration.approval.replica import Replica

ADDRESS: Final = "203.0.113.7"
SLOW_MS: Final = 20_000
"""Time that a loaded machine may take between two steps of a test."""


def call(number: int) -> str:
    """Return the name of a connection."""
    return f"gateway:{number}"


class Counter:
    """Records failures and successes from one address, each time from another connection."""

    def __init__(self, replica: Replica, address: str = ADDRESS) -> None:
        self._store = replica.store
        self._address = address
        self._number = 0

    async def fail(self, *classes: str, times: int = 1, value: str = "") -> int:
        """Record failures; returns how long the last attempt is locked out.

        Each uses a new value, unless one is given.
        """
        left = 0
        for _ in range(times):
            self._number += 1
            digest = value or f"{self._address}:{self._number}"
            wrong = {name: [digest] for name in classes or (SHARED_SECRET,)}
            left = await self._store.lockouts.count(self._address, wrong)
        return left

    async def bring(self, *values: str, right_beside: bool = False) -> int:
        """Report wrong gateway tokens of one attempt; returns how long it is locked out."""
        wrong = {SHARED_SECRET: values}
        return await self._store.lockouts.count(self._address, wrong, right_beside=right_beside)

    async def succeed(self, *classes: str) -> None:
        """Report the right secret."""
        await self._store.lockouts.clear(self._address, classes or (SHARED_SECRET,))

    async def held(self) -> dict[str, list[int]]:
        """Return the failures counted against the address."""
        value = await self._store.client.get(guard_key(self._address))
        return msgspec.msgpack.decode(value) if value else {}

    async def earlier(self, milliseconds: int) -> None:
        """Move all counted failures and known values this far into the past."""
        held = {
            name: (failures, since - milliseconds, until and until - milliseconds)
            for name, (failures, since, until) in (await self.held()).items()
        }
        await self._keep(guard_key(self._address), held)
        known = {
            name: {value: last - milliseconds for value, last in values.items()}
            for name, values in (await self.remembered()).items()
        }
        if known:
            await self._keep(wrong_values_key(self._address), known, b"1" * 16)

    async def remembered(self) -> dict[str, dict[str, int]]:
        """Return the known wrong values by class."""
        value = await self._store.client.get(wrong_values_key(self._address))
        return msgspec.msgpack.decode(value[16:]) if value else {}

    async def _keep(self, key: str, value: Any, version: bytes = b"") -> None:
        encoded = version + msgspec.msgpack.encode(value)
        await self._store.client.set(key, encoded, keepttl=True)


class Dispatchers:
    """The request dispatchers of two replicas, called without a bus."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._questions = [replica.dispatcher for replica in replicas]
        self.asked = 0

    async def answered(self, question: Any) -> Reply:
        """Ask the replicas in turn; returns the encoded reply."""
        at = self.asked % len(self._questions)
        self.asked += 1
        asked = Question("gateway", msgspec.Raw(encode(question)))
        reply: Reply | asyncio.Future[Reply]
        (reply,) = await result_of(self._questions[at].dispatch, asked)
        return await reply if isinstance(reply, asyncio.Future) else reply

    async def ask(self, question: Any) -> Answer:
        """Ask the replicas in turn; returns the decoded answer."""
        reply = await self.answered(question)
        assert isinstance(reply, bytes), reply
        answer: Answer = decode_answer(reply)
        return answer

    async def report_secret(
        self, *, right: bool, address: str = ADDRESS, value: str = ""
    ) -> Answer:
        """Report a gateway token without a device: a new wrong one each time, unless given."""
        wrong = [] if right else [Guess(SHARED_SECRET, value or f"wrong {self.asked}")]
        call_id = f"k:{self.asked}"
        return await self.ask(ReportSecret(call_id, address, [SHARED_SECRET], right, guesses=wrong))


def asks(device: Device, number: int, *, token: str = "", **beside: Any) -> AuthorizeDevice:
    """Return a device's request from the address, each time from another connection.

    `beside`: what the gateway reports about an accompanying gateway token, as in AuthorizeDevice.
    """
    question = device.asks(READ, address=ADDRESS, token=token, call_id=call(number))
    if beside.get("wrong_gateway_token"):
        beside = {"guesses": [f"digest {number}"], **beside}
    return msgspec.structs.replace(question, **beside)


GUESSED: Final[dict[str, Any]] = {"gateway_token_failed": True, "wrong_gateway_token": True}
"""A wrong gateway token beside a device token: a different one for each number."""
TWICE: Final[dict[str, Any]] = {"gateway_token_failed": True, "candidate_offered": True}
"""The device token repeated as the gateway token, as the reference client sends it."""
