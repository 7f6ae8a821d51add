"""Fixtures for the tests of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.fake_api import Api, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def api() -> Iterator[Api]:
    """Serve an HTTP API that answers as the test says."""
    with serving() as api:
        yield api
