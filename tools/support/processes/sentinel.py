"""A Redis with replicas and sentinels: real processes that fail over by themselves."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, Self

import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.ports import HOST, Reservation
from deploy.local.programs.supervisor import Program
from tools.support.processes.processes import Child, Processes
from tools.support.processes.redis import PEER, STOP_SECONDS, RedisServer, redis_binary
from tools.support.processes.redis_call import RedisCallError, call_redis
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from deploy.local.redis.binary import RedisBinary

SERVICE: Final = "latchkey"
SERVERS: Final = 3
SENTINELS: Final = 3
DOWN_AFTER_MS: Final = 1_500
"""A primary that is silent for this long is failed over."""
MAX_LAG_SECONDS: Final = 1
"""A primary whose replicas are silent for this long takes no writes: less than DOWN_AFTER_MS."""
ROLE_SECONDS: Final = 0.5
"""How long a server may take to say its role."""
FAILOVER_SECONDS: Final = 30.0
"""How long a test waits for a failover, or for an old primary to follow the new one: sentinels make
it a replica about 18 s after its return."""


class Sentinel:
    """One sentinel process, with its own password."""

    def __init__(
        self, directory: Path, binary: RedisBinary, settings: str, password: str, name: str
    ) -> None:
        self._processes = Processes()
        self._reservation = Reservation()
        self._password = password
        self._child: Child | None = None
        self.port: Final = self._reservation.port
        own = directory / name
        own.mkdir(parents=True)
        file = own / "sentinel.conf"
        file.write_text(f"port {self.port}\nbind {HOST}\ndir {own}\n{settings}")
        self._program = Program(
            name=name,
            command=[str(binary.path), str(file), "--sentinel"],
            env={},
            log=directory / f"{name}.log",
        )

    def start(self) -> None:
        """Start it and wait until it responds."""
        child = self._child = self._processes.start(self._program)

        def answers() -> bool:
            child.require_alive()
            try:
                return self.call("PING") == "PONG"
            except OSError:
                return False

        wait_until(answers, "the sentinel answers")

    def call(self, *words: str) -> str:
        """Send one command; return the first line of its reply."""
        return call_redis(self.port, "default", self._password, *words)

    def kill9(self) -> None:
        """Kill it."""
        assert self._child is not None
        self._child.kill()

    def pause(self) -> None:
        """Pause it: connections stay, but nothing is answered."""
        assert self._child is not None
        self._child.pause()

    def bring_back(self) -> None:
        """Make sure it runs, whether it is paused, ended or running."""
        if self._child is not None and self._child.status() is None:
            self._child.resume()
        else:
            self.start()

    def stop(self) -> None:
        """Stop it normally."""
        assert self._child is not None
        self._child.stop(seconds=STOP_SECONDS)

    def close(self) -> None:
        """Kill it and release the port."""
        self._processes.close()
        self._reservation.release()


class ReplicaSet:
    """One primary, two replicas, three sentinels. `servers` and `sentinels` can be harmed freely.

    `announced` are the ports under which the servers know each other, such as those of proxies;
    clients are led there too. Every write needs a replica, as in a deployment. `aliases` are more
    users, with the users whose rights and passwords they share.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binary: RedisBinary | None = None,
        down_after_ms: int = DOWN_AFTER_MS,
        min_replicas: int = 1,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = directory
        self._binary = binary or redis_binary()
        self._down_after_ms = down_after_ms
        self._min_replicas = min_replicas
        self.sentinel_password: Final = secrets.token_hex(16)
        self.servers: Final[list[RedisServer]] = []
        self.sentinels: Final[list[Sentinel]] = []
        self._ports: list[int] = []
        for number in range(SERVERS):
            own = directory / f"redis-{number}"
            own.mkdir(parents=True)
            like = self.servers[0] if self.servers else None
            self.servers.append(
                RedisServer(
                    own,
                    self._binary,
                    like=like,
                    more_settings="# announced later\n",
                    aliases=aliases,
                )
            )

    def start(self, announced: Sequence[int] = ()) -> None:
        """Start everything, and wait until the sentinels know each other and the replicas."""
        self._ports = list(announced) or [server.port for server in self.servers]
        password = self.servers[0].admin_url.partition("//")[2].partition("@")[0].split(":")[1]
        for server, port in zip(self.servers, self._ports, strict=True):
            server.start()
            for setting in (
                ("masteruser", PEER),
                ("masterauth", password),
                ("replica-announce-ip", HOST),
                ("replica-announce-port", str(port)),
                ("repl-diskless-sync-delay", "0"),
                ("min-replicas-to-write", str(self._min_replicas)),
                ("min-replicas-max-lag", str(MAX_LAG_SECONDS)),
            ):
                server.call("CONFIG", "SET", *setting)
            server.call("CONFIG", "REWRITE")
        for server in self.servers[1:]:
            server.call("REPLICAOF", HOST, str(self._ports[0]))
        wait_until(self._replicas_follow, "the replicas follow")
        settings = (
            f"requirepass {self.sentinel_password}\n"
            f"sentinel sentinel-pass {self.sentinel_password}\n"
            f"sentinel monitor {SERVICE} {HOST} {self._ports[0]} {SENTINELS // 2 + 1}\n"
            f"sentinel auth-user {SERVICE} {PEER}\n"
            f"sentinel auth-pass {SERVICE} {password}\n"
            f"sentinel down-after-milliseconds {SERVICE} {self._down_after_ms}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
            f"sentinel parallel-syncs {SERVICE} {SERVERS}\n"
        )
        for number in range(SENTINELS):
            sentinel = Sentinel(
                self._directory,
                self._binary,
                settings,
                self.sentinel_password,
                f"sentinel-{number}",
            )
            self.sentinels.append(sentinel)
            sentinel.start()
        for sentinel in self.sentinels:
            wait_until(lambda at=sentinel: _is_complete(at), "the sentinels know each other")  # type: ignore[misc]

    def _replicas_follow(self) -> bool:
        return all(
            _replication(server).get("master_link_status") == "up" for server in self.servers[1:]
        )

    @property
    def gateway_url(self) -> str:
        """The gateways' URL: the sentinels, and the user of the gateways."""
        return self.url(self.servers[0].gateway_url)

    @property
    def approval_url(self) -> str:
        """Approval's URL."""
        return self.url(self.servers[0].approval_url)

    def url(self, of_server: str, *, service: str = SERVICE) -> str:
        """Return the sentinels' URL with the user of a server's URL."""
        user = of_server.partition("//")[2].partition("@")[0]
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return (
            f"redis+sentinel://{user}@{hosts}/{service}/0"
            f"?sentinel_password={self.sentinel_password}"
        )

    def primary(self) -> RedisServer:
        """Return the primary; of two, the one with more replicas."""
        states = [(_replication(server), server) for server in self.servers]
        found = [
            (state["connected_slaves"], server)
            for state, server in states
            if state.get("role") == "master"
        ]
        assert found, "no server is a primary"
        return max(found, key=lambda one: one[0])[1]

    def bring_back(self) -> None:
        """Make sure that everything runs, and that all replicas follow one primary."""
        for server in self.servers:
            server.bring_back()
        for sentinel in self.sentinels:
            sentinel.bring_back()
        wait_until(self._is_demoted, "the old primary follows", seconds=FAILOVER_SECONDS)
        wait_until(self.is_whole, "all follow one primary", seconds=FAILOVER_SECONDS)

    def named_ports(self) -> set[int]:
        """Return the ports of the primaries that the sentinels name; usually there is one."""
        named = set()
        for sentinel in self.sentinels:
            try:
                with redis_py.Redis(
                    port=sentinel.port,
                    password=self.sentinel_password,
                    socket_timeout=ROLE_SECONDS,
                    retry=Retry(NoBackoff(), 0),
                    protocol=2,
                ) as client:
                    found = client.sentinel_get_master_addr_by_name(SERVICE)
            except redis_py.RedisError:
                continue
            if found:
                named.add(int(found[1]))
        return named

    def _is_demoted(self) -> bool:
        """Do what sentinels do to an old primary, which takes them 18 s; return whether it is done."""
        named = self.named_ports()
        if len(named) != 1:
            return False
        (primary,) = named
        for server, port in zip(self.servers, self._ports, strict=True):
            if port != primary and _replication(server).get("role") == "master":
                server.call("REPLICAOF", HOST, str(primary))
        return True

    def is_whole(self) -> bool:
        """Return whether there is one primary, all replicas follow it, and sentinels know them."""
        states = [_replication(server) for server in self.servers]
        followers = sum(state.get("master_link_status") == "up" for state in states)
        return (
            [state.get("connected_slaves") for state in states if state.get("role") == "master"]
            == [SERVERS - 1]
            and followers == SERVERS - 1
            and all(_is_complete(sentinel) for sentinel in self.sentinels)
        )

    def close(self) -> None:
        """Kill everything."""
        for sentinel in self.sentinels:
            sentinel.close()
        for server in self.servers:
            server.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _replication(server: RedisServer) -> dict[str, Any]:
    """Return what a server says of its replication; nothing if it does not answer."""
    if not server.running:
        return {}
    try:
        with redis_py.Redis.from_url(
            server.admin_url, socket_timeout=ROLE_SECONDS, retry=Retry(NoBackoff(), 0), protocol=2
        ) as client:
            found: dict[str, Any] = client.info("replication")
            return found
    except redis_py.RedisError:
        return {}


def _is_complete(sentinel: Sentinel) -> bool:
    """Return whether a sentinel knows the others, and that a failover is possible."""
    try:
        return sentinel.call("SENTINEL", "CKQUORUM", SERVICE).startswith(
            f"OK {SENTINELS} usable Sentinels"
        )
    except (OSError, RedisCallError):
        return False
