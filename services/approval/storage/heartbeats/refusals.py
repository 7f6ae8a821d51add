"""Recent refusals, as gateways report them with their heartbeats: bounded and kept for a day.

Refusals are not part of history: they have no change numbers and no audit entries. A paired or
pending device has at most two entries: one for its own attempts, one for attempts that only claimed
its id. For all other clients each address has a short list, so a flood displaces only its own rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.storage.keys import PAIRED, PENDING, REFUSED, refused_key
from services.approval.storage.redis import load_script, reaching_redis
from shared.addresses.client import is_loopback, limit_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from shared.rpc.reports import RefusalReport

REFUSED_ADDRESSES: Final = "latchkey:refused:addresses"
"""Sorted set: addresses of refused unknown clients, by their last attempt, ms."""
REFUSED_ROWS: Final = "latchkey:refused:rows"
"""Hash: the rows of each of these addresses, newest first."""
REFUSALS_VERSION: Final = "latchkey:refused:version"
"""Counter of reports of refusals."""

KEPT_MS: Final = 86_400_000
"""How long a refusal is kept after the last attempt."""
APART_MS: Final = 600_000
"""A pause longer than this between attempts restarts the count."""
ROWS_PER_ADDRESS: Final = 8
"""Max. rows of an address (IPv6: a /64); a new row displaces the oldest."""
ADDRESSES_LIMIT: Final = 250
"""Max. addresses with rows; the one refused longest ago is dropped."""
REPORTS_LIMIT: Final = 50
"""Max. reports read per heartbeat; gateways send no more."""

_SCRIPT: Final = load_script("refusals.lua")
_encode: Final = msgspec.msgpack.Encoder().encode


class Entry(msgspec.Struct, frozen=True):
    """A run of attempts refused for the same reason.

    `at` and `first` are Redis's time in ms. `device` is empty if the client named none; `proven`:
    its signature was valid. `replica` is the gateway that saw the last attempt, `number` the run
    there, and `told` how many attempts of that run are included in `count`.
    """

    device: str
    proven: bool
    reason: str
    undecided: bool
    at: int
    first: int
    count: int
    address: str
    replica: str
    client: str
    name: str
    detail: str
    number: int
    told: int


class OfDevice(msgspec.Struct, frozen=True):
    """Refusals of one device: of its own attempts, and of attempts that only claimed its id."""

    proven: Entry | None = None
    claimed: Entry | None = None


NOTHING_REFUSED: Final = OfDevice()
_decode_device: Final = msgspec.msgpack.Decoder(OfDevice).decode
_decode_rows: Final = msgspec.msgpack.Decoder(list[Entry]).decode


class Refusals:
    """Writes and reads refusals. Every method may raise StoreUnavailable.

    Reports from heartbeats use the connections of `lease`.
    """

    def __init__(self, client: Redis, lease: Redis | None = None) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._script = (lease or client).register_script(_SCRIPT)

    async def write(self, gateway: str, reports: Sequence[RefusalReport], now_ms: int) -> None:
        """Write the reports of a gateway's heartbeat, atomically.

        `now_ms` is Redis's time when the heartbeat was written, which keeps the heartbeat's
        refusals and admissions in order.
        """
        reports = reports[:REPORTS_LIMIT]
        async with reaching_redis():
            await self._script(
                keys=[
                    PAIRED,
                    PENDING,
                    REFUSED,
                    REFUSED_ADDRESSES,
                    REFUSED_ROWS,
                    REFUSALS_VERSION,
                    *(
                        refused_key(one.device_id) if one.device_id else REFUSED_ROWS
                        for one in reports
                    ),
                ],
                args=[
                    gateway,
                    now_ms,
                    KEPT_MS,
                    APART_MS,
                    ROWS_PER_ADDRESS,
                    ADDRESSES_LIMIT,
                    *map(_pack, reports),
                ],
            )

    async def of_devices(self, device_ids: Sequence[str]) -> list[OfDevice]:
        """Return the refusals of these paired or pending devices, in one round trip."""
        if not device_ids:
            return []
        async with reaching_redis():
            found = await self._client.mget([refused_key(one) for one in device_ids])
        return [_of_device(value) for value in found]

    async def of_device(self, device_id: str, limit: int) -> list[Entry]:
        """Return the refusals of a device, known or not, newest first."""
        (known,) = await self.of_devices([device_id])
        rows = [one for one in await self._rows(ADDRESSES_LIMIT) if one.device == device_id]
        return _newest([*_entries(known), *rows], limit)

    async def recent(self, limit: int, *, only_unknown: bool = False) -> list[Entry]:
        """Return the newest refusals; `only_unknown`: without paired and pending devices."""
        if only_unknown:
            found = await self._unknown(await self._rows(2 * limit))
            if len(found) < limit < ADDRESSES_LIMIT / 2:  # most have become known since
                found = await self._unknown(await self._rows(ADDRESSES_LIMIT))
            return found[:limit]
        async with reaching_redis():
            members = await self._client.zrange(REFUSED, 0, limit - 1, desc=True)
        known = await self.of_devices([member.decode(errors="replace") for member in members])
        entries = [entry for one in known for entry in _entries(one)]
        return _newest([*entries, *await self._rows(limit)], limit)

    async def version(self) -> int:
        """Return the counter of reports."""
        async with reaching_redis():
            value = await self._client.get(REFUSALS_VERSION) or b"0"
        return int(value) if value.isdigit() else 0

    async def _unknown(self, rows: list[Entry]) -> list[Entry]:
        """Return the newest of these rows, without devices that have become known since."""
        newest = _newest(rows, len(rows))
        named = sorted({one.device for one in newest if one.device})
        if not named:
            return newest
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.zmscore(PAIRED, named)
            pipeline.zmscore(PENDING, named)
            paired, pending = await pipeline.execute()
        known = {
            device
            for device, *scores in zip(named, paired, pending, strict=True)
            if any(score is not None for score in scores)
        }
        return [one for one in newest if one.device not in known]

    async def _rows(self, addresses: int) -> list[Entry]:
        """Return the rows of the `addresses` most recently refused addresses."""
        async with reaching_redis():
            members = await self._client.zrange(REFUSED_ADDRESSES, 0, addresses - 1, desc=True)
            fields = [member.decode(errors="replace") for member in members]
            found = await self._client.hmget(REFUSED_ROWS, fields) if fields else []
        return [row for value in found if value for row in _rows_of(value)]


def _of_device(value: bytes | None) -> OfDevice:
    """Decode the refusals of a device; treat unreadable data as none."""
    try:
        return _decode_device(value) if value else NOTHING_REFUSED
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING_REFUSED


def _rows_of(value: bytes) -> list[Entry]:
    try:
        return _decode_rows(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return []


def _pack(one: RefusalReport) -> bytes:
    """Encode a report for refusals.lua."""
    age = min(max(0, one.age_ms), KEPT_MS)
    return _encode(
        {
            "device": one.device_id,
            "proven": one.proven,
            "reason": one.reason,
            "undecided": one.undecided,
            "source": limit_key(one.address),
            "address": "" if is_loopback(one.address) else one.address,
            "number": one.number,
            "count": one.count,
            "confirmed": one.confirmed,
            "age": age,
            "first_age": min(max(age, one.first_age_ms), KEPT_MS),
            "client": one.client_id,
            "name": one.display_name,
            "detail": one.detail,
        }
    )


def _entries(one: OfDevice) -> list[Entry]:
    return [entry for entry in (one.proven, one.claimed) if entry is not None]


def _newest(entries: Sequence[Entry], limit: int) -> list[Entry]:
    """Sort newest first; keep only the newest of a device's entry and its rows from before."""
    found: dict[tuple[object, ...], Entry] = {}
    for one in sorted(entries, key=lambda one: one.at):
        key = (one.device, one.proven) if one.device else (one.address, one.reason)
        found.pop(key, None)
        found[key] = one
    return list(found.values())[::-1][:limit]
