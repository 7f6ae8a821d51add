"""The simulated storm behaves as storms do."""

from __future__ import annotations

import pytest

from tools.capacity.storm import (
    HINTED,
    MAX_BACKOFF_SECONDS,
    PLANS,
    REFERENCE,
    SPREAD,
    Plan,
    backoff,
    storm,
)

CLIENTS = 1_000


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
class TestEvery:
    def test_the_same_storm_has_the_same_result(self, plan: Plan) -> None:
        one, again = (storm(plan, clients=CLIENTS, per_second=200, refusal=0.1) for _ in range(2))
        assert one == again

    def test_no_client_is_refused_where_all_fit(self, plan: Plan) -> None:
        end = storm(plan, clients=CLIENTS, per_second=10 * CLIENTS, refusal=0.5)
        assert (end.tries_maximum, end.wasted) == (1, 0)

    def test_clients_return_no_faster_than_the_server_can_admit(self, plan: Plan) -> None:
        end = storm(plan, clients=CLIENTS, per_second=200, refusal=0.1)
        assert end.half is not None
        assert end.most is not None
        assert end.everybody is not None
        assert end.everybody >= CLIENTS / 200
        assert end.half <= end.most <= end.everybody


def test_the_reference_client_doubles_its_wait() -> None:
    assert [backoff(refusals) for refusals in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff(10_000) == MAX_BACKOFF_SECONDS


def test_free_refusals_let_the_server_work_all_the_time() -> None:
    end = storm(HINTED, clients=CLIENTS, per_second=100, refusal=0.0)
    assert end.wasted == 0
    assert end.everybody is not None
    assert end.everybody < 2 * CLIENTS / 100


def test_expensive_refusals_can_exhaust_the_server() -> None:
    end = storm(REFERENCE, clients=CLIENTS, per_second=CLIENTS / 60, refusal=0.75)
    assert end.everybody is None
    assert end.wasted > 0.9


def test_clients_closed_over_time_return_over_time() -> None:
    end = storm(SPREAD, clients=CLIENTS, per_second=CLIENTS / 20, refusal=0.75)
    at_once = storm(REFERENCE, clients=CLIENTS, per_second=CLIENTS / 20, refusal=0.75)
    assert end.tries_mean < at_once.tries_mean
    assert end.everybody is not None
