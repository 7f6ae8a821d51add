"""The Redis server used by the tests behaves as documented."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from deploy.local.ports import HOST
from tools.support.processes.process_table import alive, descendants
from tools.support.processes.redis import RedisServer

if TYPE_CHECKING:
    from pathlib import Path


def test_it_keeps_port_and_data_through_a_kill(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        server.call("SET", "latchkey:a", "1")
        before = server.pid
        server.kill9()
        assert not server.running
        with pytest.raises(ConnectionRefusedError):
            server.call("PING")
        server.start()
        assert server.pid != before
        assert server.call("EXISTS", "latchkey:a") == "1"


def test_a_good_end_and_a_new_start(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        server.stop()
        assert not server.running
        server.start()
        assert server.call("PING") == "PONG"


def test_a_paused_one_hangs_and_goes_on(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        server.pause()
        with socket.create_connection((HOST, server.port), timeout=0.2) as client:
            client.sendall(b"PING\r\n")
            with pytest.raises(TimeoutError):
                client.recv(100)
            server.resume()
            client.settimeout(10)
            assert client.recv(100).startswith(b"-NOAUTH")


@pytest.mark.parametrize("harm", ["none", "kill9", "stop", "pause"])
def test_it_is_brought_back_whatever_a_test_did(redis_server: RedisServer, harm: str) -> None:
    redis_server.call("SET", "latchkey:a", "1")
    if harm != "none":
        getattr(redis_server, harm)()
    redis_server.make_empty()
    assert redis_server.call("DBSIZE") == "0"


def test_nothing_is_left_of_a_redis_that_ended(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    with RedisServer(tmp_path) as server:
        assert server.running
        started = descendants(os.getpid()) - before
        assert started
    assert not alive(started)
