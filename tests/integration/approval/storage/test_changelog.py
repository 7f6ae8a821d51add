"""Every change has a number, a tag, and its predecessor's tag; the logs contain them."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import msgspec

from services.approval.storage.keys import AUDIT, CHANGES, DECISIONS, HEAD
from services.approval.storage.redis import load_script
from shared.rpc.messages import Changed, Position
from tests.integration.approval.storage.plans import plan, run

if TYPE_CHECKING:
    from services.approval.storage.store import Store
    from tests.integration.approval.replica import Replica


class TestNumbers:
    async def test_the_position_before_the_first_change_is_zero(self, store: Store) -> None:
        assert await store.load([]) == (Position(), [])
        committed = await run(store, plan(0))
        assert (committed.outcome, committed.change) == ("done", Position())

    async def test_they_rise_without_gaps_and_name_their_predecessor(
        self, here: Replica, store: Store
    ) -> None:
        plans = [plan(1), plan(3), plan(0), plan(2)]
        committed = [await run(store, item) for item in plans]
        assert [change.change.number for change in committed] == [1, 4, 4, 6]
        assert [change.previous_tag for change in committed] == [
            "",
            *(change.change.tag for change in committed[:3]),
        ]
        log = await here.redis.xrange(CHANGES)
        tags = [fields[b"tag"].decode() for _, fields in log]
        assert tags == [tag for item in plans for tag in item.tags]
        assert len(set(tags)) == 6
        assert [fields[b"previous"].decode() for _, fields in log] == ["", *tags[:-1]]
        assert [entry_id for entry_id, _ in log] == [b"%d-0" % n for n in range(1, 7)]
        assert committed[-1].change == Position(6, tags[-1])
        assert (await store.load([]))[0] == Position(6, tags[-1])

    async def test_the_logs_contain_events_and_their_authors(
        self, here: Replica, store: Store
    ) -> None:
        await run(store, plan(2))
        log = await here.redis.xrange(CHANGES)
        received = [msgspec.msgpack.decode(fields[b"body"], type=Changed) for _, fields in log]
        assert [item.device_id for item in received] == ["device 0", "device 1"]
        entries = await store.audit_log.read(0, 10)
        assert [(entry.id, entry.device_id, entry.actor) for entry in entries] == [
            (1, "device 0", "somebody"),
            (2, "device 1", "somebody"),
        ]
        assert [item.id for item in await store.audit_log.read(1, 10)] == [2]
        assert [item.id for item in await store.audit_log.read(0, 1)] == [1]

    async def test_many_commits_at_once_are_numbered_without_gaps(
        self, here: Replica, store: Store
    ) -> None:
        await asyncio.gather(*(run(store, plan(count % 3)) for count in range(60)))
        log = await here.redis.xrange(CHANGES)
        assert [entry_id for entry_id, _ in log] == [b"%d-0" % n for n in range(1, 61)]
        for (_, before), (_, after) in itertools.pairwise(log):
            assert after[b"previous"] == before[b"tag"]

    async def test_large_numbers_stay_whole(self, here: Replica, store: Store) -> None:
        last = 2**53 - 3
        await here.redis.set(HEAD, f"{last}:tag")
        await here.redis.xadd(CHANGES, {"tag": "tag"}, id=f"{last}-0")  # the head's own entry
        committed = await run(store, plan(2))
        assert committed.change.number == last + 2
        assert (await store.load([]))[0] == committed.change
        assert [item.id for item in await store.audit_log.read(last, 10)] == [last + 1, last + 2]

    async def test_the_logs_are_trimmed_and_keep_the_newest(
        self, here: Replica, store: Store
    ) -> None:
        for _ in range(4):
            attempt = plan(2)
            encoded, *blobs = attempt.arguments()
            shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(encoded) | {"kept": (3, 5, 2)})
            await here.redis.eval(
                load_script("commit.lua", with_history=True),
                len(attempt.keys),
                *attempt.keys,
                shorter,
                *blobs,
            )
        numbers = {
            key: [entry_id for entry_id, _ in await here.redis.xrange(key)]
            for key in (CHANGES, AUDIT)
        }
        assert numbers == {
            CHANGES: [b"%d-0" % n for n in (6, 7, 8)],
            AUDIT: [b"%d-0" % n for n in (4, 5, 6, 7, 8)],
        }
        decisions = await here.redis.zrange(DECISIONS, 0, -1, withscores=True)
        assert [score for _member, score in decisions] == [7, 8]
