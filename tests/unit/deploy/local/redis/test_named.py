"""An unreachable REDIS_URL is reported at once, without its password."""

from __future__ import annotations

import socket

import pytest

from deploy.local.errors import RedisSilent
from deploy.local.ports import HOST
from deploy.local.redis.named import require_answer


def test_a_redis_that_accepts_connections_is_reachable() -> None:
    with socket.create_server((HOST, 0)) as server:
        require_answer(f"redis://user:secret@127.0.0.1:{server.getsockname()[1]}/0")


def test_an_unreachable_redis_is_reported_without_its_password(unused_tcp_port: int) -> None:
    with pytest.raises(RedisSilent) as caught:
        require_answer(f"redis://user:secret@127.0.0.1:{unused_tcp_port}/0")
    said = str(caught.value)
    assert f"REDIS_URL=redis://127.0.0.1:{unused_tcp_port}: no response" in said
    assert "secret" not in said


@pytest.mark.parametrize("url", ["elsewhere", "redis://", "redis://host:port"])
def test_what_is_no_address_is_the_services_to_tell(url: str) -> None:
    require_answer(url)
