"""The faults of the drill reach what they are meant to break."""

from __future__ import annotations

from services.approval.storage import keys
from services.approval.storage.heartbeats import presence
from tools.drills.faults import ALL
from tools.drills.stack.settings import APPROVALS, GATEWAYS


def test_each_fault_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in ALL]
    assert len(set(names)) == len(names)


def test_each_fault_breaks_a_replica_or_a_key_that_exists() -> None:
    """A misspelt key would break nothing, and every promise would hold."""
    replicas = {f"gateway-{number + 1}" for number in range(GATEWAYS)}
    replicas |= {f"approval-{number + 1}" for number in range(APPROVALS)}
    targets = {"", *replicas, *_declared_keys()}
    assert {case for fault in ALL for case in fault.cases} <= targets


def _declared_keys() -> set[str]:
    declared = {
        value
        for module in (keys, presence)
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith("latchkey:")
    }
    return declared | {presence.presence_key("*")}


def test_the_fault_that_forgets_everything_comes_last() -> None:
    alone = [fault for fault in ALL if not fault.relayed]
    assert [fault.promise.forgets for fault in alone].index(True) == len(alone) - 1
