from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.ports import HOST, Reservation
from deploy.local.programs.readiness import ReadyAnswer, ReadyProcesses, ask_ready

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[int]:
    """Serve the answers in turn, the last one forever; yields the port."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
            pass

    with HTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def said(**fields: object) -> bytes:
    return json.dumps({"bootId": "b1"} | fields).encode()


def test_a_ready_service_is_read_as_ready() -> None:
    with answering((200, said(ready=True))) as port:
        assert ask_ready(port) == [ReadyAnswer(ready=True, boot_id="b1", reason="")]


def test_several_at_once_are_several_answers() -> None:
    with answering((200, said(ready=True))) as port:
        assert len(ask_ready(port, at_once=4)) == 4


def test_not_ready_gives_each_reason() -> None:
    dependencies = {
        "redis": {"ok": False, "reason": "connection refused"},
        "beat": {"ok": False, "reason": "none answered"},
        "clock": {"ok": True, "reason": "fine"},
    }
    with answering((503, said(ready=False, dependencies=dependencies))) as port:
        (answer,) = ask_ready(port)
    assert answer.reason == "redis: connection refused; beat: none answered"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, said(ready=True)),
        (200, said(ready="yes")),
        (404, b"Not Found"),
        (200, b"[]"),
        (200, b'{"ready": true}'),
        (200, said(ready=True, dependencies={"redis": None})),
    ],
)
def test_anything_else_is_not_ready(status: int, body: bytes) -> None:
    with answering((status, body)) as port:
        (answer,) = ask_ready(port)
    assert not answer.ready
    assert answer.reason


def test_without_services_there_is_no_answer() -> None:
    with Reservation() as reserved:
        assert ask_ready(reserved.port, at_once=3) == []


def test_what_is_no_http_is_no_answer() -> None:
    with socket.create_server((HOST, 0)) as server:

        def hang_up() -> None:
            client, _ = server.accept()
            client.recv(65536)
            client.sendall(b"not http\r\n\r\n")
            client.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert ask_ready(server.getsockname()[1]) == []
        thread.join()


class TestSeveralProcessesBehindOnePort:
    ONE = (200, said(ready=True, bootId="one"))
    TWO = (200, said(ready=True, bootId="two"))
    TWO_NOT_READY = (503, said(ready=False, bootId="two"))

    def test_all_processes_have_to_be_seen(self) -> None:
        with answering(self.ONE, self.ONE, self.ONE, self.ONE, self.TWO) as port:
            processes = ReadyProcesses(port, 2)
            assert processes.trouble() == "1 of 2 answered"
            assert processes.trouble() == ""

    def test_one_that_is_not_ready_any_more_counts_no_more(self) -> None:
        with answering(self.TWO, self.TWO_NOT_READY, self.ONE) as port:
            processes = ReadyProcesses(port, 2)
            assert processes.trouble() == "not ready"
            assert processes.trouble() == "1 of 2 answered"

    def test_a_needed_dependency_must_be_healthy_even_if_the_service_is_ready(self) -> None:
        away = {"upstream": {"ok": False, "reason": "no answer in time"}}
        back = {"upstream": {"ok": True, "reason": "OpenClaw 2026.9.6"}}
        with answering(
            (200, said(ready=True, dependencies=away)), (200, said(ready=True, dependencies=back))
        ) as port:
            processes = ReadyProcesses(port, 1, needs="upstream")
            assert processes.trouble() == "upstream: no answer in time"
            assert processes.trouble() == ""

    def test_a_dependency_that_is_not_needed_may_be_unhealthy(self) -> None:
        away = {"upstream": {"ok": False, "reason": "no answer in time"}}
        with answering((200, said(ready=True, dependencies=away))) as port:
            assert ReadyProcesses(port, 1).trouble() == ""

    def test_unanswered_probes_are_counted(self) -> None:
        with Reservation() as reserved:
            assert ReadyProcesses(reserved.port, 2).trouble() == "0 of 2 answered"
