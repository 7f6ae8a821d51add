"""Every sentence about Redis in `/readyz` has its cause in the doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval.storage.requirements import RedisFound
from services.cli.doctor import redis_causes
from shared.redis import sentences
from shared.redis.address import Place
from shared.redis.primary import Named, Silent, trouble, warnings

if TYPE_CHECKING:
    from services.cli.doctor.cause import Cause

AWAY = Silent("sentinel s:26379: no answer in time")
HERE = Named(Place("h", 6379), 1)
UNKNOWN = Silent(f"the service `x` {sentences.SERVICE_UNKNOWN}", always=True)
SOUND = {"aof_enabled": 1}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (f"h:6379 {sentences.IS_SENTINEL}", redis_causes.IS_SENTINEL),
        (f"h:6379 {sentences.NOT_SENTINEL}", redis_causes.NOT_SENTINEL),
        (trouble([UNKNOWN, AWAY]), redis_causes.SERVICE_UNKNOWN),
        (trouble([AWAY, AWAY]), redis_causes.SENTINELS_AWAY),
        (warnings([HERE, AWAY, AWAY], HERE)[0], redis_causes.SENTINEL_MINORITY),
        (sentences.READ_ONLY, redis_causes.READ_ONLY),
        (sentences.FEW_REPLICAS, redis_causes.FEW_REPLICAS),
        (RedisFound(None, None).warnings()[0], redis_causes.UNCHECKED),
        (RedisFound(SOUND, None).warnings()[0], redis_causes.UNCHECKED),
        (RedisFound(SOUND, "always", confirms=False).warnings()[0], redis_causes.NO_CONFIRMATION),
        (RedisFound(SOUND, "always", replicated=True).warnings()[0], redis_causes.NO_CONFIRMATION),
        ("ConnectionError: Connection refused", None),
        (RedisFound(SOUND, "everysec").warnings()[0], None),
    ],
)
def test_each_sentence_has_its_cause(text: str, cause: Cause | None) -> None:
    assert redis_causes.cause_in(["other", text]) is cause
