"""Redis's commands as the store uses them, with replies as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.simulation.redis.database import Database, Entry
    from tests.simulation.redis.server import Server

    Ask = Callable[[Server], Any]


def time() -> Ask:
    """Read the server's clock: seconds and microseconds."""

    def ask(server: Server) -> tuple[int, int]:
        seconds, milliseconds = divmod(server.now_ms(), 1000)
        return seconds, milliseconds * 1000

    return ask


def info(_section: str) -> Ask:
    """Report a healthy server."""
    return lambda _server: {"aof_enabled": 1, "connected_slaves": 0}


def wait(_replicas: int, _milliseconds: int) -> Ask:
    """Report that no replica confirms anything: none is modelled."""
    return lambda _server: 0


def config_get(_name: str) -> Ask:
    """Report that each write is on disk before it is answered."""
    return lambda _server: {"appendfsync": "always"}


def mget(keys: Sequence[str]) -> Ask:
    """Read strings."""
    return lambda server: server.read(lambda data: [data.texts.get(key) for key in keys])


def get(key: str) -> Ask:
    """Read a string."""
    return lambda server: server.read(lambda data: data.texts.get(key))


def set(key: str, value: bytes, *, px: int) -> Ask:  # noqa: A001 (the name of the command)
    """Set a string that expires after this many milliseconds."""
    return lambda server: server.write(lambda data, now_ms: data.set(key, value, now_ms + px))


def hmget(key: str, fields: Sequence[str]) -> Ask:
    """Read fields of a hash."""

    def look(data: Database) -> list[bytes | None]:
        values = data.hashes.get(key, {})
        return [values.get(field) for field in fields]

    return lambda server: server.read(look)


def zadd(key: str, scores: Mapping[str, float]) -> Ask:
    """Put members into a sorted set."""

    def change(data: Database, _now_ms: int) -> None:
        for member, score in scores.items():
            data.add(key, score, member)

    return lambda server: server.write(change)


def zremrangebyscore(key: str, minimum: str, maximum: float) -> Ask:
    """Remove the members up to a score from a sorted set."""
    assert minimum == "-inf"
    return lambda server: server.write(lambda data, _now_ms: data.take_up_to(key, maximum))


def zrange(key: str, first: int, last: int, *, desc: bool = False, withscores: bool = False) -> Ask:
    """Read members by rank; the last rank is inclusive, -1 is the end."""

    def look(data: Database) -> list[Any]:
        ranked = data.ranked(key)
        if desc:
            ranked.reverse()
        ranked = ranked[first : None if last == -1 else last + 1]
        if withscores:
            return [(member.encode(), score) for score, member in ranked]
        return [member.encode() for _score, member in ranked]

    return lambda server: server.read(look)


def zrangebyscore(key: str, minimum: str, maximum: float | str, *, start: int, num: int) -> Ask:
    """Read the members up to a score, or above one, `(n`."""
    above = float(minimum.removeprefix("("))
    assert minimum == "-inf" or minimum.startswith("(")

    def look(data: Database) -> list[bytes]:
        found = [
            member.encode() for score, member in data.ranked(key) if above < score <= float(maximum)
        ]
        return found[start : start + num]

    return lambda server: server.read(look)


def exists(*keys: str) -> Ask:
    """Count the existing keys."""

    def look(data: Database) -> int:
        kinds = (data.texts, data.sorted, data.hashes, data.streams)
        return sum(any(key in kind for kind in kinds) for key in keys)

    return lambda server: server.read(look)


def xrevrange(key: str, *, max: str, min: str, count: int) -> Ask:  # noqa: A002
    """Read the last entries of a stream, the newest first."""
    assert (max, min) == ("+", "-")

    def look(data: Database) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return [_streamed(entry) for entry in data.between(key, 0)][: -count - 1 : -1]

    return lambda server: server.read(look)


def xrange(key: str, *, min: str, max: str, count: int) -> Ask:  # noqa: A002
    """Read a stream from its beginning (`-`), from `n-0` on, or after `(n-0`."""
    assert max == "+"
    first = 0 if min == "-" else int(min.strip("(").removesuffix("-0")) + min.startswith("(")

    def look(data: Database) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return [_streamed(entry) for entry in data.between(key, first, count)]

    return lambda server: server.read(look)


def _streamed(entry: Entry) -> tuple[bytes, dict[bytes, bytes]]:
    number, fields = entry
    return b"%d-0" % number, dict(zip(fields[::2], fields[1::2], strict=True))
