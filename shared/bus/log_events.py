"""Log events of the connection to Redis for messages."""

from __future__ import annotations

from typing import Final

from shared.observability.logs import LogEvent

LOST: Final = LogEvent("bus_lost", "The connection to Redis for messages was lost; says why.")
BACK: Final = LogEvent(
    "bus_back", "The connection to Redis for messages is back; says after how many seconds."
)
RENEWED: Final = LogEvent(
    "bus_renewed",
    "Messages reach a different Redis than their recipients, as after a failover that cut no"
    " connection; `why` says how that was noticed. Both connections for messages are replaced, at"
    " most once in 5 s. If it repeats, the services' `REDIS_URL` lead to different servers.",
)

ALL: Final = (LOST, BACK, RENEWED)
