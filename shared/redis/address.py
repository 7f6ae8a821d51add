"""What a Redis URL names: one server, or sentinels that know the primary. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio.connection import parse_url

from shared.settings.redis_url import SENTINEL_OPTIONS, SENTINEL_SUFFIX, YES

if TYPE_CHECKING:
    from collections.abc import Mapping

SENTINEL_PORT: Final = 26_379
"""The default port of a sentinel."""
PROTOCOL_DEFAULT: Final = 2
"""Version of the Redis protocol (RESP), unless the option `protocol` says 3."""


class Place(NamedTuple):
    """Where a server or a sentinel listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed URL. Without `sentinels`, `server` includes host and port.

    `server` and `sentinel` are arguments for redis-py's connections to Redis and to a sentinel.
    """

    server: Mapping[str, Any] = field(repr=False)
    sentinels: tuple[Place, ...] = ()
    service: str = ""
    sentinel: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_address(url: str) -> RedisAddress:
    """Parse a valid Redis URL; raises ValueError."""
    scheme, _, rest = url.partition("://")
    if not scheme.endswith(SENTINEL_SUFFIX):
        return RedisAddress(_options(url))
    authority, _, after = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    path, _, query = after.partition("?")
    service, _, database = path.partition("/")
    given = dict(parse_qsl(query, keep_blank_values=True))
    own = {name: given.pop(name, "") for name in SENTINEL_OPTIONS}
    plain = scheme.removesuffix(SENTINEL_SUFFIX)
    server = _options(f"{plain}://{user}{at}any/{database}?{urlencode(given)}")
    server.pop("host")
    tls = own["sentinel_tls"].lower() in YES if own["sentinel_tls"] else plain == "rediss"
    sentinel = {
        name: value
        for name, value in server.items()
        if name.startswith("ssl_") or name in {"connection_class", "protocol"}
    }
    if not tls:
        sentinel = {"protocol": sentinel["protocol"]}
    elif plain != "rediss":
        sentinel |= {"connection_class": _options("rediss://any")["connection_class"]}
        server = {name: value for name, value in server.items() if not name.startswith("ssl_")}
    sentinel["username"] = own["sentinel_username"] or None
    sentinel["password"] = own["sentinel_password"] or None
    places = tuple(place_of(one) for one in hosts.split(","))
    return RedisAddress(server, places, unquote(service), sentinel)


def place_of(text: str) -> Place:
    """Parse host and port of a sentinel; raises ValueError."""
    parts = urlsplit(f"redis://{text}")
    return Place(unquote(parts.hostname or ""), parts.port or SENTINEL_PORT)


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = dict(parse_url(url))
    options["protocol"] = int(options.get("protocol") or PROTOCOL_DEFAULT)
    return options
