"""Approval rules at work: what is admitted at once, and bounds that hold at any number of replicas."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.rules import Rule
from services.approval.rules.rulebook import TURNED_AWAY_MS as CACHED_MS
from services.approval.storage.changes.transaction import TURNED_AWAY_MS
from services.approval.storage.keys import RULES, turned_away_key
from shared.rpc.messages import Admitted, NeedsPairing
from tests.support.approval.devices import READ, READ_PAIRING, Device

if TYPE_CHECKING:
    from services.approval.domain.records import Record
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock

INSIDE, OUTSIDE = "192.0.2.7", "198.51.100.7"
HOUR_MS = 3_600_000
RUN = ("node.run",)
SENT = ("mget", "evalsha", "exec", "zrange", "exists")
"""Commands that only clients send, not the script of a commit."""


async def add(*replicas: Replica, name: str = "nodes", **parts: Any) -> Rule:
    """Add a rule at the first replica and let all know it."""
    here = replicas[0]
    for each in replicas:
        await each.store.liveness.write_alive("replica")  # learns the clock of Redis
    given: dict[str, Any] = {
        "role": "node",
        "scopes": RUN,
        "expires_at_ms": here.store.now_ms() + HOUR_MS,
        "count": 3,
        **parts,
    }
    if not {"networks", "device_ids"} & set(parts):
        given["networks"] = ("192.0.2.0/24",)
    rule = here.rules.make(OPERATOR, name, Rule("", created_at_ms=0, created_by="", **given))
    await here.rules.add(OPERATOR, name, rule)
    for each in replicas:
        await each.rulebook.refresh()
    return rule


async def used(here: Replica, name: str = "nodes") -> int:
    return next(one.used for one in await here.rules.all(OPERATOR) if one.name == name)


async def commands(here: Replica) -> Counter[str]:
    """Return how often the server has run each command that a client sends."""
    found = await here.redis.info("commandstats")
    return Counter({name: found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in SENT})


async def record(here: Replica, device: Device) -> Record:
    _head, (held,) = await here.store.load([device.device_id])
    assert held.record is not None
    return held.record


def node(device: Device | None = None, address: str = INSIDE, **more: Any) -> Any:
    return (device or Device.new()).asks(RUN, role="node", address=address, **more)


class TestAdmitting:
    async def test_a_covered_device_is_admitted_in_the_same_connect(self, here: Replica) -> None:
        await add(here)
        device = Device.new()
        admitted = await here.admit(node(device))
        assert admitted.token_scopes == list(RUN)
        kept = await record(here, device)
        assert kept.pending is None
        assert kept.pairing is not None
        assert (kept.pairing.roles, kept.pairing.approved_via) == (("node",), "rule:nodes")
        again = await here.admit(node(device))
        assert again.device_token == admitted.device_token
        assert await used(here) == 1

    async def test_event_and_audit_log_say_which_rule(self, here: Replica) -> None:
        await add(here)
        device = Device.new()
        await here.admit(node(device))
        entries = await here.registry.audit(OPERATOR, 0, 10)
        assert [(one.action, one.actor, one.label) for one in entries] == [
            ("rule-added", "operator:admin", "nodes"),
            ("approved", "rule:nodes", ""),
        ]
        assert (entries[1].role, entries[1].scopes, entries[1].address) == ("node", RUN, INSIDE)
        (event,) = [one for one in here.published if one.kind == "approved"]
        assert (event.device_id, event.request_id) == (device.device_id, entries[1].request_id)

    @pytest.mark.parametrize(
        "question",
        [
            node(address=OUTSIDE),
            Device.new().asks(RUN, role="node", address=""),
            Device.new().asks(("node.run", "node.see"), role="node", address=INSIDE),
            Device.new().asks(READ, address=INSIDE),
        ],
        ids=["another network", "no address", "another scope", "another role"],
    )
    async def test_what_it_does_not_cover_waits_for_a_person(
        self, here: Replica, question: Any
    ) -> None:
        await add(here)
        assert (await here.request(question)).reason == "not-paired"
        assert await used(here) == 0

    async def test_a_device_that_waits_is_admitted_on_its_retry(self, here: Replica) -> None:
        device = Device.new()
        asked = await here.request(node(device))
        await add(here)
        await here.admit(node(device))
        note = await here.store.note(asked.request_id)
        assert note is not None
        assert note.state == "superseded"
        assert await here.registry.pending(OPERATOR) == []

    async def test_by_device_id_for_operators(self, here: Replica) -> None:
        known, other = Device.new(), Device.new()
        await add(here, role="operator", scopes=("operator.write",), device_ids=(known.device_id,))
        await here.admit(known.asks(READ, address=OUTSIDE))
        await here.request(other.asks(READ, address=OUTSIDE))
        asked = await here.request(known.asks(READ_PAIRING, address=OUTSIDE))
        assert asked.reason == "scope-upgrade"

    async def test_admin_only_if_the_rule_says_so(self, here: Replica) -> None:
        device = Device.new()
        await add(
            here,
            role="operator",
            scopes=("operator.admin",),
            device_ids=(device.device_id,),
            allow_admin=True,
        )
        await here.admit(device.asks(("operator.admin",)))

    async def test_a_changed_device_waits_for_a_person(self, here: Replica) -> None:
        await add(here)
        device = Device.new()
        await here.admit(node(device))
        assert (await here.request(node(device, platform="darwin"))).reason == "metadata-upgrade"

    async def test_another_key_under_a_listed_id_is_refused(self, here: Replica) -> None:
        device = Device.new()
        await add(here, networks=(), device_ids=(device.device_id,))
        forged = node(device, public_key=Device.new().public_key)
        assert isinstance(await here.answer(forged), NeedsPairing)
        assert await used(here) == 0

    async def test_the_second_rule_goes_on_where_the_first_is_used_up(self, here: Replica) -> None:
        await add(here, name="a", count=1)
        await add(here, name="b", count=1)
        for _ in range(2):
            await here.admit(node())
        await here.request(node())
        assert [await used(here, name) for name in ("a", "b")] == [1, 1]

    @pytest.mark.parametrize("ruled", [False, True])
    async def test_a_known_device_costs_one_read_as_without_rules(
        self, here: Replica, *, ruled: bool
    ) -> None:
        device = await here.paired()
        if ruled:
            await add(here)
        before = await commands(here)
        await here.admit(device.asks())
        assert await commands(here) - before == {"mget": 1}
        before = await commands(here)
        await here.request(node(address=OUTSIDE))
        assert await commands(here) - before == {"mget": 1, "evalsha": 1}


class TestBounds:
    async def test_the_count_is_never_exceeded_at_two_replicas(
        self, here: Replica, there: Replica
    ) -> None:
        for round_ in range(5):
            name = f"nodes-{round_}"
            await add(here, there, name=name, count=3, networks=(f"10.0.{round_}.0/24",))
            answers = await asyncio.gather(
                *(
                    (here, there)[number % 2].answer(node(address=f"10.0.{round_}.{number}"))
                    for number in range(12)
                )
            )
            admitted = [one for one in answers if isinstance(one, Admitted)]
            waiting = [one for one in answers if isinstance(one, NeedsPairing)]
            assert (len(admitted), len(waiting)) == (3, 9)
            assert await used(there, name) == 3

    async def test_a_connect_asked_again_counts_once(self, here: Replica, there: Replica) -> None:
        """A gateway asks another replica if the first does not answer in time."""
        await add(here, there)
        question = node(call_id="gateway:1")
        answers = await asyncio.gather(*(each.answer(question) for each in (here, there) * 3))
        assert {type(one) for one in answers} == {Admitted}
        assert len({one.device_token for one in answers if isinstance(one, Admitted)}) == 1
        assert await used(here) == 1

    async def test_it_expires_by_the_clock_of_redis(
        self, here: Replica, there: Replica, clock: FakeClock
    ) -> None:
        """A replica whose own clock is behind does not prolong a rule."""
        await here.store.liveness.write_alive("here")
        await add(here, there, expires_at_ms=here.store.now_ms() + 200)
        await here.admit(node())
        await asyncio.sleep(0.25)
        assert here.rulebook.current
        assert (
            here.store.now_ms() < next(iter(here.rulebook.current.by_name.values())).expires_at_ms
        )
        await here.request(node())
        assert await used(here) == 1

    async def test_a_removed_rule_approves_nothing_though_a_replica_still_knows_it(
        self, here: Replica, there: Replica
    ) -> None:
        await add(here, there)
        await here.rules.remove(OPERATOR, "nodes")
        assert there.rulebook.current
        await there.request(node())
        assert not there.rulebook.current

    async def test_a_rule_of_the_same_name_begins_anew(self, here: Replica) -> None:
        await add(here, count=1)
        await here.admit(node())
        await here.rules.remove(OPERATOR, "nodes")
        await add(here, count=1)
        assert await used(here) == 0
        await here.admit(node())
        await here.request(node())

    async def test_rules_that_cannot_be_read_approve_nothing(self, here: Replica) -> None:
        await add(here)
        await here.redis.set(RULES, b"0123456789abcdef\xc1")
        assert await here.answer(node()) is None
        assert isinstance(await here.answer(node()), NeedsPairing)


class TestPeopleDecideOtherwise:
    @pytest.mark.parametrize("how", ["remove", "revoke"])
    async def test_a_device_that_a_person_sent_away_stays_away(
        self, here: Replica, there: Replica, how: str
    ) -> None:
        await add(here, there)
        device = Device.new()
        await here.admit(node(device))
        if how == "remove":
            await here.registry.remove(OPERATOR, device.device_id)
        else:
            await here.registry.revoke(OPERATOR, device.device_id, "node")
        for each in (here, there):
            await each.request(node(device))
        assert await used(here) == 1
        asked = await here.request(node(device))
        await here.registry.approve(OPERATOR, asked.request_id)
        await there.admit(node(device))

    @pytest.mark.parametrize("many", [False, True])
    async def test_a_rejected_device_is_not_approved_by_a_later_rule(
        self, here: Replica, clock: FakeClock, *, many: bool
    ) -> None:
        device = Device.new()
        asked = await here.request(node(device))
        if many:
            await here.registry.reject_all(OPERATOR, [asked.request_id])
        else:
            await here.registry.reject(OPERATOR, asked.request_id)
        await add(here)
        await here.request(node(device))
        assert 0 < await here.redis.pttl(turned_away_key(device.device_id)) <= TURNED_AWAY_MS
        await here.redis.delete(turned_away_key(device.device_id))
        await here.request(node(device))
        clock.advance(CACHED_MS / 1000 + 1)
        await here.admit(node(device))

    async def test_a_device_that_removes_itself_may_come_back(self, here: Replica) -> None:
        device = Device.new()
        await add(
            here,
            role="operator",
            scopes=READ_PAIRING,
            device_ids=(device.device_id,),
            allow_admin=True,
        )
        await here.admit(device.asks(READ_PAIRING))
        caller = await here.socket(device, *READ_PAIRING)
        await here.registry.remove(caller, device.device_id)
        await here.admit(device.asks(READ_PAIRING))
        assert await used(here) == 2
