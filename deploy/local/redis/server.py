"""Configure a local Redis for Latchkey: durable, with one user per service."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.errors import RedisTooOld
from deploy.local.places import REDIS_6_USERS, REDIS_CONF, REDIS_USERS
from deploy.local.ports import HOST
from deploy.local.programs.supervisor import Program
from deploy.secret_names import APPROVAL_PASSWORD, GATEWAY_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.local.redis.binary import RedisBinary, Version

OWNER_ONLY: Final = 0o600
_SEVEN: Final = (7, 0)
_ONCE: Final = Retry(NoBackoff(), 0)


@dataclass(frozen=True, slots=True)
class LocalRedis:
    """A Redis to start: its binary, port and data directory.

    `passwords` maps the names in PASSWORDS to values; `more_users` are additional ACL lines.
    `template` is the ACL template, if not the one for this version. With `more_settings`, Redis
    gets its own copy of the configuration file with these lines, which it may rewrite.
    """

    binary: RedisBinary
    port: int
    directory: Path
    passwords: Mapping[str, str]
    more_users: str = ""
    template: Path | None = None
    more_settings: str = ""

    @property
    def gateway_url(self) -> str:
        """The gateways' Redis URL."""
        return self.url("gateway", self.passwords[GATEWAY_PASSWORD])

    @property
    def approval_url(self) -> str:
        """Approval's Redis URL."""
        return self.url("approval", self.passwords[APPROVAL_PASSWORD])

    def url(self, user: str, password: str) -> str:
        """Return a user's URL for database 0."""
        return f"redis://{user}:{password}@{HOST}:{self.port}/0"

    def program(self, log: Path) -> Program:
        """Write the ACL file and return the program to start. Raises RedisTooOld."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_new_enough()
        users = self.directory / "users.acl"
        with os.fdopen(os.open(users, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY), "w") as f:
            template = self.template or users_for(self.binary.version)
            f.write(access_list(template.read_text(), self.passwords) + self.more_users)
        return Program(
            name="redis",
            command=[
                str(self.binary.path),
                str(self._configuration()),
                *("--bind", HOST),
                *("--port", str(self.port)),
                *("--dir", str(self.directory)),
                *("--aclfile", str(users)),
            ],
            env={},
            log=log,
        )

    def trouble(self) -> str:
        """Return why Redis does not answer approval's user, or an empty string."""
        try:
            with Redis.from_url(
                self.approval_url, retry=_ONCE, driver_info=None, protocol=2
            ) as client:
                client.ping()
        except RedisError as error:
            return str(error)
        return ""

    def _configuration(self) -> Path:
        """Return the configuration file, an existing copy as Redis has rewritten it."""
        if not self.more_settings:
            return REDIS_CONF
        own = self.directory / "redis.conf"
        if not own.exists():
            with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT, OWNER_ONLY), "w") as f:
                f.write(REDIS_CONF.read_text() + self.more_settings)
        return own

    def _require_new_enough(self) -> None:
        # Redis 7 keeps its append-only files in this directory, which Redis 6 ignores.
        written_by_newer = (self.directory / "appendonlydir").exists()
        if written_by_newer and self.binary.version < _SEVEN:
            raise RedisTooOld(self.directory, self.binary.version)


def users_for(version: Version) -> Path:
    """Return the ACL template for a version: 6.2 does not support selectors."""
    return REDIS_USERS if version >= _SEVEN else REDIS_6_USERS


def access_list(template: str, passwords: Mapping[str, str]) -> str:
    """Return a template without comments, with the hash for each @NAME_SHA256@."""
    lines = [line for line in template.splitlines() if line and not line.startswith("#")]
    return re.sub(
        r"@(\w+)_SHA256@",
        lambda found: hashlib.sha256(passwords[found[1]].encode()).hexdigest(),
        "".join(f"{line}\n" for line in lines),
    )
