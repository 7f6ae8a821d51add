"""The shortened settings of a drill, and its own limits. All in seconds."""

from __future__ import annotations

from typing import Final

GATEWAYS: Final = 3
APPROVALS: Final = 2

BEAT_SECONDS: Final = 0.5
LEASE_SECONDS: Final = 4.0
DRAIN_SECONDS: Final = 2.0

GATEWAY_SETTINGS: Final = {
    "BEAT_SECONDS": f"{BEAT_SECONDS:g}",
    "LEASE_SECONDS": f"{LEASE_SECONDS:g}",
    "DRAIN_SECONDS": f"{DRAIN_SECONDS:g}",
    "TRUSTED_PROXIES": "127.0.0.1/32",
}

CLOSING_MARGIN_SECONDS: Final = 1.0
"""What the sweep, the network and a busy machine may add to the lease."""
BACK_SECONDS: Final = 25.0
"""Admissions must succeed again within this. Clients wait up to 5 s when asked to."""

MOMENT_SECONDS: Final = 1.5
"""Duration of a fault well below the lease."""
BEYOND_LEASE_SECONDS: Final = LEASE_SECONDS + 1.5
"""Duration of a fault that outlasts the lease."""

AFTER_FAILOVER_SECONDS: Final = 3.0
"""Admissions must succeed again this long after sentinels have chosen another primary."""
FAILOVER_SECONDS: Final = 30.0
"""A failover must be complete within this."""

READY_SECONDS: Final = 30.0
CASE_SECONDS: Final = 120.0
ROUND_SECONDS: Final = 1200.0
"""A case and a round end after this, whatever happens."""
