"""Which connection without a device gives way, compared with a search through all of them."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, cast

from services.gateway.connections.connection import Connection
from services.gateway.connections.deviceless import Deviceless
from shared.addresses.client import limit_key
from shared.addresses.holders import holders

if TYPE_CHECKING:
    import asyncio

STEPS = 4_000
KEYS = [
    *(limit_key(f"192.0.2.{number}") for number in range(6)),
    *(limit_key(f"2001:db8:{customer}:{part}::1") for customer in range(3) for part in range(4)),
    limit_key("2001:db8:1:100::1"),
]


def connection(number: int, key: str) -> Connection:
    return Connection(number, cast("asyncio.Transport", None), key, holders(key), 0.0)


def held_by(everybody: list[Connection], level: int) -> Counter[str]:
    """Count the connections of all holders at a level; an IPv4 address is one at each."""
    return Counter(
        around[min(level, len(around) - 1)]
        for around in (holders(each.limit_key) for each in everybody)
    )


class TestDisplacedBy:
    def test_the_oldest_of_the_address_with_the_most_gives_way(self) -> None:
        deviceless = Deviceless()
        keys = ["a", "b", "b", "a", "b", "c"]
        made = [connection(number, key) for number, key in enumerate(keys)]
        for each in made:
            deviceless.add(each)
        assert deviceless.displaced_by("elsewhere") is made[1]
        deviceless.remove(made[1])
        deviceless.remove(made[2])
        assert deviceless.displaced_by("elsewhere") is made[0], "a has two, b and c have one"

    def test_a_flood_displaces_its_own(self) -> None:
        deviceless = Deviceless()
        made = [connection(number, "flood" if number else "honest") for number in range(5)]
        for each in made:
            deviceless.add(each)
        assert deviceless.displaced_by("flood") is made[1]
        assert deviceless.displaced_by("honest") is made[1]

    def test_an_address_with_almost_as_many_displaces_its_own(self) -> None:
        deviceless = Deviceless()
        made = [connection(number, key) for number, key in enumerate("aaabb")]
        for each in made:
            deviceless.add(each)
        assert deviceless.displaced_by("b") is made[3], "else b had more than a keeps"
        assert deviceless.displaced_by("c") is made[0]

    def test_where_each_has_one_the_oldest_gives_way(self) -> None:
        deviceless = Deviceless()
        made = [connection(number, key) for number, key in enumerate("abc")]
        for each in made:
            deviceless.add(each)
        assert deviceless.displaced_by("d") is made[0]
        assert deviceless.displaced_by("b") is made[1]

    def test_a_network_counts_as_a_whole_and_loses_where_it_has_most(self) -> None:
        deviceless = Deviceless()
        keys = [limit_key(f"2001:db8:1:{part:x}::1") for part in (0x100, 0x200, 0x201, 0x201)]
        made = [connection(number, key) for number, key in enumerate([*keys, *"aaa"])]
        for each in made:
            deviceless.add(each)
        assert deviceless.displaced_by("elsewhere") is made[2]

    def test_there_may_be_nobody(self) -> None:
        deviceless = Deviceless()
        assert deviceless.displaced_by("a") is None
        assert deviceless.oldest_of("a") is None
        only = connection(1, "a")
        deviceless.add(only)
        deviceless.remove(only)
        deviceless.remove(only)
        assert deviceless.displaced_by("a") is None
        assert len(deviceless) == 0

    def test_it_is_always_of_the_largest_holder(self) -> None:
        drawn = random.Random(7)
        deviceless, everybody = Deviceless(), list[Connection]()
        for number in range(STEPS):
            if everybody and drawn.random() < 0.48:
                gone = everybody.pop(drawn.randrange(len(everybody)))
                deviceless.remove(gone)
            else:
                everybody.append(connection(number, drawn.choice(KEYS)))
                deviceless.add(everybody[-1])
            counts = {key: len(held) for key, held in deviceless.by_key.items()}
            assert counts == Counter(each.limit_key for each in everybody)
            self._check(deviceless, everybody)
        for each in everybody:
            deviceless.remove(each)
        assert not any(vars(deviceless).values()), vars(deviceless)

    def _check(self, deviceless: Deviceless, everybody: list[Connection]) -> None:
        """Compare the one that gives way to a newcomer from elsewhere with a search."""
        found = deviceless.displaced_by("elsewhere")
        if found is None:
            assert not everybody
            return
        rest = everybody
        for level in range(3):
            held = held_by(rest, level)
            around = holders(found.limit_key)
            mine = around[min(level, len(around) - 1)]
            assert held[mine] == max(held.values())
            rest = [each for each in rest if mine in holders(each.limit_key)]
        assert found.number == min(each.number for each in rest)


class TestAdmitted:
    def test_the_oldest_that_was_admitted_is_found(self) -> None:
        deviceless = Deviceless()
        made = [connection(number, "a") for number in range(3)]
        for each in made:
            deviceless.add(each)
        assert deviceless.oldest_admitted("a") is None
        deviceless.admit(made[2])
        deviceless.admit(made[1])
        assert deviceless.oldest_admitted("a") is made[2]
        deviceless.remove(made[2])
        assert deviceless.oldest_admitted("a") is made[1]
        deviceless.remove(made[1])
        assert deviceless.oldest_admitted("a") is None
