"""Attacks and storms: what they do to sessions, newcomers, health checks and memory."""

from __future__ import annotations

from typing import Final

from tools.drills.attacks import frames, pairing, places, plain_http, storms

ALL: Final = (
    *frames.ATTACKS,
    *places.ATTACKS,
    *plain_http.ATTACKS,
    *pairing.ATTACKS,
    *storms.ATTACKS,
)
