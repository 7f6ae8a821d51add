"""Commits changes once, all or nothing, and publishes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from services.approval.domain.errors import StoreUnavailable, TooLate, UnreadableRecord
from services.approval.storage.changes.repairs import REPAIRS_LIMIT
from services.approval.storage.keys import CONFIRMED, PENDING_NAMES, call_key
from services.approval.storage.redis import load_script, reaching_redis
from shared.redis.errors import explain
from shared.redis.lost import is_lost
from shared.rpc.messages import Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.domain.authorization import Caller
    from services.approval.storage.changes.transaction import Transaction, TransactionPlan
    from services.approval.storage.store import Store
    from shared.rpc.messages import Changed

WAIT_MS: Final = 1_000
"""How long a commit waits for a Redis replica's confirmation, if there are replicas."""


_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Committed:
    """Outcome of a plan (`done`, `seen`, `late`, `conflict` or `full`) and the newest change.

    `answer` is the result of an earlier attempt of the same call (`seen`). `displaced` is the
    device and the id of the request that gave way to a new one: the first change of the plan.
    """

    outcome: str
    change: Position
    answer: bytes
    previous_tag: str
    displaced: tuple[str, str] | None = None


class TransactionLog:
    """Runs the commit script. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store, tell: Callable[[Changed], None]) -> None:
        self._store = store
        self._client: Any = store.client
        self._script = store.client.register_script(commit_script())
        self._tell = tell

    async def commit(self, transaction: Transaction) -> Committed:
        """Commit, and publish the changes before returning. Raises TooLate."""
        plan = transaction.plan
        committed = await self.run(plan)
        if committed.outcome == "late":
            raise TooLate
        if committed.outcome == "done":
            changes, tags = plan.changes, plan.tags
            if committed.displaced is not None:
                changes = [plan.displaced(*committed.displaced), *changes]
                tags = [plan.displaced_tag, *tags]
            number = committed.change.number - len(changes)
            previous = committed.previous_tag
            for change, tag in zip(changes, tags, strict=True):
                number += 1
                self._tell(replace(change, change=Position(number, tag), previous_tag=previous))
                previous = tag
        return committed

    async def commit_call(
        self, transaction: Transaction, caller: Caller, result: _Result
    ) -> _Result | None:
        """Commit what a call does, and return its result: `result`, or that of an earlier attempt.

        None on a conflict, after which everything must be read again. Raises TooLate.
        """
        if caller.call_id:
            transaction.plan.not_after_ms = caller.not_after_ms
            transaction.plan.once(call_key(caller.call_id), msgspec.msgpack.encode(result))
        committed = await self.commit(transaction)
        if committed.outcome == "seen":
            return _decode_result(committed.answer, type(result))
        return result if committed.outcome == "done" else None

    async def run(self, plan: TransactionPlan) -> Committed:
        """Carry out a plan without publishing. With Redis replicas, wait until one of them has it.

        Damaged keys are repaired first. Raises UnreadableRecord for damage that a person has to
        repair.
        """
        keys, arguments = plan.keys, plan.arguments()
        repairs, key = self._store.repairs, b""
        for _ in range(REPAIRS_LIMIT):
            try:
                if self._store.has_replicas:
                    # The context gives the connection back: `execute` keeps it if looking up
                    # whether Redis has the script fails.
                    async with self._client.pipeline(transaction=False) as pipeline:
                        await self._script(keys=keys, args=arguments, client=pipeline)
                        (result,) = await self._execute_confirmed(pipeline)
                else:
                    result = await self._script(keys=keys, args=arguments)
            except Exception as error:
                if is_lost(error):
                    raise StoreUnavailable(explain(error)) from error
                raise
            outcome, number, tag, key, previous, *displaced = result
            if outcome == b"broken":
                await repairs.repair(key.decode(), tag.decode(), previous.decode())
            elif outcome == b"unreadable":
                raise UnreadableRecord(key.decode())
            else:
                repairs.trouble = ""
                at = Position(number, tag.decode())
                return Committed(
                    outcome.decode(), at, key, previous.decode(), _displaced(*displaced)
                )
        message = f"{key.decode()} cannot be used, and a repair did not help"
        raise StoreUnavailable(message)

    async def answered(self, call_id: str, kind: type[_Result]) -> _Result | None:
        """Return the result of an earlier attempt of a call, if one was carried out.

        With Redis replicas, wait until one of them has the state that was read. This also applies
        if there is no such call or no call id: the caller's answer may rest on another's commit.
        """
        key = call_key(call_id)
        async with reaching_redis():
            if self._store.has_replicas:
                async with self._client.pipeline(transaction=False) as pipeline:
                    pipeline.get(key)
                    (value,) = await self._execute_confirmed(pipeline)
            else:
                value = await self._client.get(key) if call_id else None
        return _decode_result(value.partition(b"\n")[2], kind) if value else None

    async def confirm(self) -> None:
        """With Redis replicas, wait until one of them has the state that was read before."""
        if self._store.has_replicas:
            async with reaching_redis(), self._client.pipeline(transaction=False) as pipeline:
                await self._execute_confirmed(pipeline)

    async def _execute_confirmed(self, pipeline: Any) -> list[Any]:
        """Send these commands; return their replies once a Redis replica has the state they saw.

        WAIT covers only writes on its own connection. A retry of an earlier commit writes nothing,
        so CONFIRMED is always written.
        """
        pipeline.set(CONFIRMED, b"")
        pipeline.wait(1, WAIT_MS)
        *replies, _written, copies = await pipeline.execute()
        if copies < 1:
            message = "no Redis replica confirmed the commit"
            raise StoreUnavailable(message)
        found: list[Any] = replies
        return found


def _decode_result(value: bytes, kind: type[_Result]) -> _Result:
    """Decode the result of an earlier attempt of a call; raises StoreUnavailable."""
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except (msgspec.MsgspecError, ValueError):
        message = "the result of an earlier attempt of this call cannot be read"
        raise StoreUnavailable(message) from None


def _displaced(found: list[bytes] | None = None) -> tuple[str, str] | None:
    """Return device and id of the request that gave way to another, from the script's reply."""
    return (found[0].decode(), found[1].decode()) if found else None


def commit_script() -> str:
    """Return the source of commit.lua with what it uses; the names are constants in it."""
    names = ", ".join(f"{name} = '{key}'" for name, key in PENDING_NAMES.items())
    return (
        f"local NAMES = {{{names}}}\n"
        + load_script("pending.lua", with_history=True)
        + load_script("commit.lua")
    )
