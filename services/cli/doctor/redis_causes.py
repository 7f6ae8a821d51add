"""What `/readyz` says of Redis and its sentinels, with what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.cli.doctor.cause import Cause
from shared.redis import sentences

if TYPE_CHECKING:
    from collections.abc import Iterable

IS_SENTINEL: Final = Cause(
    "redis-is-sentinel",
    "`/readyz` 503: `is a sentinel, not a Redis server`",
    "`REDIS_URL` names a sentinel as if it were a Redis server. Nothing has to be approved again.",
    "Start it with `redis+sentinel://`, list the sentinels, and add the name of the service:"
    " `redis+sentinel://user:password@host:26379,host:26379/service/0`.",
)
NOT_SENTINEL: Final = Cause(
    "redis-not-sentinel",
    "`/readyz` 503: `is not a sentinel`",
    "`REDIS_URL` names a Redis server as if it were a sentinel. Nothing has to be approved again.",
    "For one Redis server, start it with `redis://` or `rediss://` and leave out the service."
    " Otherwise use the sentinels' ports (26379 unless they were changed).",
)
SERVICE_UNKNOWN: Final = Cause(
    "sentinel-service-unknown",
    "`/readyz` 503: `is not known to the sentinels`",
    "The sentinels watch no service with the name in `REDIS_URL`.",
    "`redis-cli -p 26379 SENTINEL MASTERS` at a sentinel lists the names; put the right one after"
    " the sentinels' addresses.",
)
SENTINEL_LOGIN: Final = Cause(
    "sentinel-login",
    "`/readyz` 503: `refuses the login` or `refuses a command`",
    "A sentinel does not accept the login in `REDIS_URL`, or its user may not ask for the primary.",
    "Sentinels have users of their own: set the options `sentinel_username` and"
    " `sentinel_password`, and permit `sentinel`, `subscribe` and the channels"
    " (`ACL SETUSER … +sentinel +subscribe +unsubscribe +ping &*`).",
)
SENTINELS_AWAY: Final = Cause(
    "sentinels-away",
    "`/readyz` 503: `none of … sentinels answers`; log event `redis.sentinel-lost`",
    "No sentinel tells a process that has just started which Redis is the primary.",
    "Start the sentinels and check their addresses in `REDIS_URL`. Processes that knew the primary"
    " before go on with it.",
)
SENTINEL_MINORITY: Final = Cause(
    "sentinel-minority",
    "approval's `/readyz` warns `only … sentinels answer`; log event `redis.sentinel-lost`",
    "Devices are admitted as usual, but if the primary fails now, no other Redis takes over.",
    "Start the sentinels that the warning names: more than half of them have to run.",
)
READ_ONLY: Final = Cause(
    "redis-read-only",
    "`/readyz` 503: `takes no writes (READONLY)` or `is a replica`; log event `redis.demoted`",
    "The Redis that is reached is a replica, such as an old primary that has returned."
    " Nobody is admitted, and nothing has to be approved again.",
    "Let `REDIS_URL` lead to the primary: use `redis+sentinel://`, or correct what moves the name"
    " or the proxy to the primary after a failover.",
)
FEW_REPLICAS: Final = Cause(
    "redis-few-replicas",
    "`/readyz` 503: `too few replicas are connected`",
    "The primary takes no changes without a replica, so that a failover loses none; or it is cut"
    " off, and another one is about to take over.",
    "Start the replicas, and look at `INFO replication` (`slave0`, `lag`) of the primary.",
)
NO_CONFIRMATION: Final = Cause(
    "redis-no-confirmation",
    "approval's `/readyz` warns `min-replicas-to-write is 0` or `WAIT is refused`",
    "A failover may lose the last changes, such as an approval or a removal: nothing makes sure"
    " that a replica has them.",
    "Set `min-replicas-to-write 1` in all servers of Redis, and permit `WAIT`. If the provider"
    " offers neither, check the audit log after a failover (log event `history.lost`).",
)
UNCHECKED: Final = Cause(
    "redis-unchecked",
    "approval's `/readyz` warns `INFO is refused` or `CONFIG GET is refused`",
    "Approval cannot check whether Redis stores each change on disk before it answers.",
    "Look it up at the provider: `appendonly yes`, `appendfsync always` and `maxmemory-policy"
    " noeviction` are needed.",
)

ALL: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Cause))

_BY_TEXT: Final = (
    (sentences.IS_SENTINEL[:33], IS_SENTINEL),
    (sentences.NOT_SENTINEL[:17], NOT_SENTINEL),
    (sentences.SERVICE_UNKNOWN[:29], SERVICE_UNKNOWN),
    ("refuses the login", SENTINEL_LOGIN),
    ("refuses a command", SENTINEL_LOGIN),
    ("sentinels answers", SENTINELS_AWAY),
    ("sentinels answer, and Redis cannot fail over", SENTINEL_MINORITY),
    (sentences.READ_ONLY, READ_ONLY),
    ("but is a replica", READ_ONLY),
    (sentences.FEW_REPLICAS, FEW_REPLICAS),
    ("min-replicas-to-write is 0", NO_CONFIRMATION),
    ("WAIT is refused", NO_CONFIRMATION),
    ("INFO is refused", UNCHECKED),
    ("CONFIG GET is refused", UNCHECKED),
)


def cause_in(texts: Iterable[str]) -> Cause | None:
    """Return the first cause that reasons or warnings of `/readyz` name."""
    for text in texts:
        for part, cause in _BY_TEXT:
            if part in text:
                return cause
    return None
