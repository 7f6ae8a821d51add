"""All faults, in the order they are done."""

from __future__ import annotations

from typing import Final

from tests.drills.faults import services

ALL: Final = (*services.FAULTS,)
