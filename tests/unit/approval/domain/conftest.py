"""Fixtures for the tests of the admission policy."""

from __future__ import annotations

import pytest

from tests.unit.approval.domain.policy_case import PolicyCase


@pytest.fixture
def case() -> PolicyCase:
    """Return a device, and the policy that decides about it."""
    return PolicyCase()
