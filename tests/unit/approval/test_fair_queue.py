"""Clients take turns, and the one with the most items is known."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.approval.requests.fair_queue import FairQueue

CLIENTS = "abc"


def filled(*clients: str) -> FairQueue[Any]:
    """Return a queue with an item of each of these clients; items are their own number."""
    queue: FairQueue[Any] = FairQueue()
    for number, client in enumerate(clients):
        queue.add(client, number)
    return queue


def drained(queue: FairQueue[Any]) -> str:
    """Take everything; return whose items came, in order."""
    taken = []
    while queue:
        found = queue.take(lambda _client: True)
        assert found is not None
        taken.append(found[0])
    return "".join(taken)


def test_each_client_gets_a_turn() -> None:
    assert drained(filled(*"aaaaabbc")) == "abcabaaa"


def test_within_a_client_the_first_comes_first() -> None:
    queue = filled(*"aba")
    assert [queue.take(lambda _client: True) for _ in range(4)] == [
        ("a", 0),
        ("b", 1),
        ("a", 2),
        None,
    ]


def test_a_client_that_may_not_run_keeps_its_turn() -> None:
    queue = filled(*"aab")
    assert queue.take(lambda client: client != "a") == ("b", 2)
    assert queue.take(lambda client: client != "a") is None
    assert queue.take(lambda _client: True) == ("a", 0)


def test_a_newcomer_waits_for_one_item_of_each_client() -> None:
    queue = filled(*"a" * 50, *"b" * 3)
    assert queue.ahead("c") == 2
    assert queue.ahead("b") == 7
    assert queue.ahead("a") == 53


def test_the_largest_is_the_client_with_most_and_loses_its_newest() -> None:
    queue = filled(*"abbcb")
    assert queue.newest_of_largest() == ("b", 4)


@given(st.lists(st.sampled_from("aaaabc<>"), max_size=60))
def test_it_agrees_with_a_plain_list(steps: list[str]) -> None:
    """Add an item of a client, take the next one (<), or remove the newest of the largest (>)."""
    queue: FairQueue[Any] = FairQueue()
    held: list[tuple[str, int]] = []
    for number, step in enumerate(steps):
        if step == "<":
            taken = queue.take(lambda _client: True)
            assert (taken in held) if held else (taken is None)
            held = [one for one in held if one != taken]
        elif step == ">":
            if held:
                largest, item = queue.newest_of_largest()
                counts = Counter(client for client, _item in held)
                assert counts[largest] == max(counts.values())
                assert item == max(one for client, one in held if client == largest)
                queue.remove(largest, item)
                held.remove((largest, item))
        else:
            queue.add(step, number)
            held.append((step, number))
        counts = Counter(client for client, _item in held)
        assert len(queue) == len(held)
        for client in CLIENTS:
            own = counts[client]
            assert queue.count(client) == own
            assert queue.ahead(client) == sum(min(count, own + 1) for count in counts.values())
