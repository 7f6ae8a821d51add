"""The registry's store: one record a device in Redis, and one script that changes things."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import RedisError

from services.approval.errors import StoreUnavailable
from services.approval.lockouts import FAILURES_LIMIT, LOCK_MS, WINDOW_MS, Guard
from services.approval.plan import CALLS_KEPT_MS, VERSION_CHARACTERS, AuditEntry, Plan
from services.approval.records import Record, RequestNote, decode_note, decode_record
from shared.messages import BeatAnswer, Change, Changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from redis.asyncio import Redis

    from shared.clock import Clock
    from shared.messages import BeatQuestion

HEAD: Final = "latchkey:head"
CHANGES: Final = "latchkey:changes"
AUDIT: Final = "latchkey:audit"
PAIRED: Final = "latchkey:paired"
"""Sorted set: paired device ids by the time of their approval."""
PENDING: Final = "latchkey:pending"
"""Sorted set: device ids with a request, by the time it expires."""

ALIVE_KEPT_MS: Final = 5_000
WAIT_MS: Final = 1_000
"""How long a commit waits for a Redis replica to have it, where there are replicas."""

BEAT_CHANGES_LIMIT: Final = 256
"""How many changes one answer to a beat tells at most (R4)."""
PRESENCE_KEPT_MS: Final = 10_000
"""After so long without a beat a gateway's presence vanishes as a whole."""

_LOCKOUT: Final = files("services.approval").joinpath("lockout.lua").read_text()
_BEAT: Final = files("services.approval").joinpath("beat.lua").read_text()
_COMMIT: Final = files("services.approval").joinpath("commit.lua").read_text()
_decode_changed: Final = msgspec.msgpack.Decoder(Changed).decode
_encode_present: Final = msgspec.msgpack.Encoder().encode
_decode_entry: Final = msgspec.json.Decoder(AuditEntry).decode


def device_key(device_id: str) -> str:
    """Name the key of a device's record."""
    return f"latchkey:device:{device_id}"


def request_key(request_id: str) -> str:
    """Name the key of the note on a request id."""
    return f"latchkey:request:{request_id}"


def address_key(limit_key: str) -> str:
    """Name the sorted set of device ids with a request from one address, by creation."""
    return f"latchkey:pending:address:{limit_key}"


def alive_key(boot_id: str) -> str:
    """Name the key that stands while an approval replica is alive."""
    return f"latchkey:alive:{boot_id}"


GATEWAYS: Final = "latchkey:gateways"
"""Sorted set: gateways by the time of their last beat."""


def presence_key(boot_id: str) -> str:
    """Name the hash of who is connected to a gateway."""
    return f"latchkey:presence:{boot_id}"


def guard_key(limit_key: str) -> str:
    """Name the key of what is held against one address after wrong secrets."""
    return f"latchkey:guard:{limit_key}"


def call_key(call_id: str) -> str:
    """Name the key of the answer to a call."""
    return f"latchkey:call:{call_id}"


@dataclass(frozen=True, slots=True)
class Held:
    """A device's record as it was read, with its version; both empty where there is none."""

    version: str
    record: Record | None


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a plan: `done`, `seen`, `late`, `conflict` or `full`; and the newest change.

    `answer` is what an earlier try of the same call was told (`seen`).
    """

    outcome: str
    change: Change
    answer: bytes
    previous_tag: str


@contextlib.asynccontextmanager
async def _reaching_redis() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


class Store:
    """Reads and changes what Redis keeps. Every method raises StoreUnavailable."""

    def __init__(self, client: Redis, clock: Clock) -> None:
        self._client: Any = client  # its types cover bytes and text, ours are bytes
        self._clock = clock
        self._commit = client.register_script(_COMMIT)
        self._beat = client.register_script(_BEAT)
        self._lockout = client.register_script(_LOCKOUT)
        self._offset_ms: float | None = None
        self.has_replicas = False

    def now_ms(self) -> int:
        """Return Redis's time, as last learned: one clock for all approval replicas."""
        if self._offset_ms is None:
            return self._clock.wall_ms()
        return int(self._clock.monotonic() * 1000 + self._offset_ms)

    async def write_alive(self, boot_id: str) -> None:
        """Write that this replica is alive, and learn Redis's time on the way."""
        began = self._clock.monotonic()
        async with _reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.set(alive_key(boot_id), b"1", px=ALIVE_KEPT_MS)
            pipeline.time()
            _written, (seconds, microseconds) = await pipeline.execute()
        middle = (began + self._clock.monotonic()) / 2
        self._offset_ms = seconds * 1000 + microseconds / 1000 - middle * 1000

    async def info(self) -> dict[str, Any]:
        """Return Redis's own account of itself."""
        async with _reaching_redis():
            found: dict[str, Any] = await self._client.info("everything")
        return found

    async def load(self, device_ids: Sequence[str]) -> tuple[Change, list[Held]]:
        """Read the newest change and the records of these devices, in one round trip."""
        async with _reaching_redis():
            head, *values = await self._client.mget(
                [HEAD, *(device_key(device_id) for device_id in device_ids)]
            )
        return _change(head), [_held(value) for value in values]

    async def load_guarded(
        self, device_ids: Sequence[str], limit_keys: Sequence[str]
    ) -> tuple[Change, list[Held], dict[str, Guard]]:
        """As `load`, with the guards of these addresses, still in one round trip."""
        async with _reaching_redis():
            head, *values = await self._client.mget(
                [
                    HEAD,
                    *(device_key(device_id) for device_id in device_ids),
                    *(guard_key(limit_key) for limit_key in limit_keys),
                ]
            )
        count = len(device_ids)
        guards = zip(limit_keys, values[count:], strict=True)
        return (
            _change(head),
            [_held(value) for value in values[:count]],
            {limit_key: Guard(value) for limit_key, value in guards},
        )

    async def count_failure(self, limit_key: str, call_id: str, classes: Sequence[str]) -> int:
        """Count a wrong secret, once for its call; returns ms for which it was locked before."""
        return await self._guarded("fail", limit_key, call_id, classes)

    async def clear_failures(self, limit_key: str, classes: Sequence[str]) -> None:
        """Forget the failures of these classes, unless they are locked."""
        await self._guarded("clear", limit_key, "", classes)

    async def note(self, request_id: str) -> RequestNote | None:
        """Read what is known of a request id."""
        async with _reaching_redis():
            value = await self._client.get(request_key(request_id))
        return decode_note(value) if value else None

    async def paired(self) -> list[Record]:
        """Read all paired devices, the latest approved first."""
        return await self._listed(PAIRED, newest_first=True)

    async def pending(self) -> list[Record]:
        """Read all devices with a request, in no order that matters."""
        return await self._listed(PENDING, newest_first=False)

    async def expired(self, now_ms: int, most: int) -> list[str]:
        """Return device ids whose request is void by now."""
        async with _reaching_redis():
            found = await self._client.zrangebyscore(PENDING, "-inf", now_ms, start=0, num=most)
        return [member.decode() for member in found]

    async def oldest_from(self, limit_key: str, but: str) -> str | None:
        """Return the device with the oldest request from one address, `but` this one."""
        async with _reaching_redis():
            found = await self._client.zrange(address_key(limit_key), 0, 1)
        return next((m.decode() for m in found if m.decode() != but), None)

    async def audit(self, after: int, limit: int) -> list[AuditEntry]:
        """Read audit entries with numbers above `after`, oldest first."""
        async with _reaching_redis():
            found = await self._client.xrange(AUDIT, min=f"({after}-0", max="+", count=limit)
        return list(_entries(found))

    async def commit(self, plan: Plan) -> Committed:
        """Carry out a plan. With Redis replicas it is done only once one of them has it."""
        keys, arguments = plan.keys, plan.arguments()
        async with _reaching_redis():
            if self.has_replicas:
                pipeline = self._client.pipeline(transaction=False)
                await self._commit(keys=keys, args=arguments, client=pipeline)
                pipeline.wait(1, WAIT_MS)
                result, copies = await pipeline.execute()
                if copies < 1:
                    message = "no Redis replica confirmed the commit"
                    raise StoreUnavailable(message)
            else:
                result = await self._commit(keys=keys, args=arguments)
        outcome, number, tag, answer, previous = result
        return Committed(outcome.decode(), Change(number, tag.decode()), answer, previous.decode())

    async def beat(self, gateway: str, beat: BeatQuestion) -> BeatAnswer:
        """Write a gateway's presence and read what it has missed, in one step (R2)."""
        joined = [part for one in beat.joined for part in (one.number, _encode_present(one))]
        async with _reaching_redis():
            head, now_ms, presence_at, resync, found = await self._beat(
                keys=[presence_key(gateway), GATEWAYS, HEAD, CHANGES],
                args=[
                    gateway,
                    beat.beat_id,
                    beat.builds_on,
                    beat.connections,
                    PRESENCE_KEPT_MS,
                    beat.applied.number,
                    beat.applied.tag,
                    int(beat.booted),
                    BEAT_CHANGES_LIMIT,
                    len(beat.joined),
                    *joined,
                    *beat.left,
                ],
            )
        return BeatAnswer(
            beat_id=beat.beat_id,
            head=_change(head),
            now_ms=now_ms,
            presence_at=presence_at,
            resync=bool(resync),
            changes=[_changed(entry_id, fields) for entry_id, fields in found],
        )

    async def _guarded(
        self, what: str, limit_key: str, call_id: str, classes: Sequence[str]
    ) -> int:
        async with _reaching_redis():
            left = await self._lockout(
                keys=[guard_key(limit_key), f"{call_key(call_id)}:failed"],
                args=[what, WINDOW_MS, FAILURES_LIMIT, LOCK_MS, CALLS_KEPT_MS, *classes],
            )
        return int(left)

    async def _listed(self, index: str, *, newest_first: bool) -> list[Record]:
        async with _reaching_redis():
            members = await self._client.zrange(index, 0, -1, desc=newest_first)
        if not members:
            return []
        _head, held = await self.load([member.decode() for member in members])
        return [one.record for one in held if one.record is not None]


def _change(head: bytes | None) -> Change:
    if not head:
        return Change()
    number, tag = head.decode().split(":", 1)
    return Change(int(number), tag)


def _held(value: bytes | None) -> Held:
    if value is None:
        return Held("", None)
    return Held(value[:VERSION_CHARACTERS].decode(), decode_record(value[VERSION_CHARACTERS:]))


def _entries(found: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[AuditEntry]:
    for entry_id, fields in found:
        entry = _decode_entry(fields[b"entry"])
        yield msgspec.structs.replace(entry, id=int(entry_id.split(b"-")[0]))


def _changed(entry_id: bytes, fields: Sequence[bytes]) -> Changed:
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return msgspec.structs.replace(
        _decode_changed(values[b"body"]),
        change=Change(int(entry_id.split(b"-")[0]), values[b"tag"].decode()),
        previous_tag=values[b"previous"].decode(),
    )
