"""Fixtures shared by several modules."""

from __future__ import annotations

import pytest

from tests.unit.gateway.replication.replica_case import Case


@pytest.fixture
def case() -> Case:
    """Return a replica that knows history up to 5 and holds a lease."""
    return Case()
