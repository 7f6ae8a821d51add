"""Log lines: their fields, when they are written, and that they are written whole."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.observability import json_lines
from shared.observability.json_lines import WAITING_LIMIT_LINES, Lines, Timestamp, make_json_logger

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pipe:
    """Reads what was written so far, without waiting for more."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.lines = Lines(self.write_end)

    def written(self) -> bytes:
        try:
            return os.read(self.read_end, 1 << 20)
        except BlockingIOError:
            return b""

    def logger(self, level: int = logging.INFO) -> Any:
        kind: Any = make_json_logger("approval", "boot", level)
        return kind(self.lines, [], {})

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written().splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for fd in (pipe.read_end, pipe.write_end):
        os.close(fd)


class TestWhatStandsInIt:
    def test_fields_come_in_a_fixed_order(self, pipe: Pipe) -> None:
        pipe.logger().info("question", change=7, seen=["a"])
        (line,) = pipe.records()
        assert list(line) == [
            *("timestamp", "level", "event", "change", "seen", "service", "replica")
        ]
        assert (line["level"], line["event"], line["change"]) == ("info", "question", 7)
        assert (line["service"], line["replica"]) == ("approval", "boot")

    def test_levels_below_the_chosen_one_are_left_out(self, pipe: Pipe) -> None:
        log = pipe.logger(logging.WARNING)
        log.debug("no")
        log.info("no")
        log.warning("yes")
        log.log(logging.INFO, "no")
        log.log(logging.ERROR, "yes")
        assert [line["level"] for line in pipe.records()] == ["warning", "error"]

    def test_what_is_bound_stands_in_each_line(self, pipe: Pipe) -> None:
        pipe.logger().bind(connection="c1").info("question", change=1)
        assert pipe.records()[0]["connection"] == "c1"

    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("plain", "plain"),
            ('a "quoted" back\\slash', 'a "quoted" back\\slash'),
            ("umläut", "umläut"),
            ("two\nlines", "two\\u000alines"),
            ("\x1b[2J", "\\u001b[2J"),
            ("\x7f", "\\u007f"),
            ("right \u202e to left", "right \\u202e to left"),
            ("\u2028", "\\u2028"),
        ],
    )
    def test_what_is_unprintable_is_escaped(self, pipe: Pipe, text: str, written: str) -> None:
        pipe.logger().info("connection", client=text, device=f"<{text}>")
        raw = pipe.written().decode()
        assert raw.removesuffix("\n").isprintable()
        line = json.loads(raw)
        assert (line["client"], line["device"]) == (written, f"<{written}>")

    @given(st.text())
    def test_no_text_whatever_makes_a_line_unprintable(self, text: str) -> None:
        pipe = Pipe()
        pipe.logger().info("connection", client=text)
        raw = pipe.written().decode()
        os.close(pipe.read_end)
        os.close(pipe.write_end)
        assert raw.removesuffix("\n").isprintable()

    def test_an_exception_comes_with_its_trace(self, pipe: Pipe) -> None:
        try:
            json.loads("of\nthis")
        except ValueError:
            pipe.logger().exception("failed", one="two\n")
        pipe.logger().error("failed", exc_info=ValueError("given"))
        pipe.logger().info("fine", exc_info=None)
        first, second, third = pipe.records()
        assert first["level"] == "error"
        assert first["exception"].startswith("Traceback")
        assert "\njson.decoder.JSONDecodeError: " in first["exception"]
        assert first["one"] == "two\\u000a"
        assert "ValueError: given" in second["exception"]
        assert third.keys().isdisjoint({"exception", "exc_info"})

    def test_what_json_cannot_say_is_said_as_text(self, pipe: Pipe) -> None:
        pipe.logger().info("odd", error=LookupError("x"))
        assert pipe.records()[0]["error"] == "x"

    @given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)))  # noqa: DTZ001  in UTC below
    def test_the_time_is_iso_8601(self, when: datetime) -> None:
        when = when.replace(tzinfo=UTC)
        micros = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        received = Timestamp().of(micros * 1000 + 999)
        assert received == when.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def test_the_next_second_is_sent(self) -> None:
        timestamp = Timestamp()
        received = [timestamp.of(ns) for ns in (999_999_999, 1_000_000_000, 59_000_001_000)]
        assert [text[-11:] for text in received] == [":00.999999Z", ":01.000000Z", ":59.000001Z"]


class TestWhenItIsWritten:
    async def test_lines_are_written_at_the_end_of_the_turn_in_one_write(self, pipe: Pipe) -> None:
        for n in range(3):
            pipe.lines.put(b"%d" % n)
        assert pipe.written() == b""
        await asyncio.sleep(0)
        assert pipe.written() == b"0\n1\n2\n"
        pipe.lines.put(b"next")
        await asyncio.sleep(0)
        assert pipe.written() == b"next\n"

    def test_lines_are_written_at_once_if_no_loop_runs(self, pipe: Pipe) -> None:
        pipe.lines.put(b"one")
        assert pipe.written() == b"one\n"

    async def test_too_many_lines_are_written_within_the_turn(self, pipe: Pipe) -> None:
        for n in range(WAITING_LIMIT_LINES + 1):
            pipe.lines.put(b"%d" % n)
        assert pipe.written().count(b"\n") == WAITING_LIMIT_LINES
        await asyncio.sleep(0)
        assert pipe.written() == b"%d\n" % WAITING_LIMIT_LINES

    def test_what_a_loop_left_behind_is_written_before_what_comes_next(self, pipe: Pipe) -> None:
        loop = asyncio.new_event_loop()
        loop.call_soon(pipe.lines.put, b"last of it")
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        pipe.lines.put(b"after it")
        assert pipe.written() == b"last of it\nafter it\n"

    async def test_lines_from_another_thread_are_neither_lost_nor_torn(self, pipe: Pipe) -> None:
        def many(name: bytes) -> None:
            for n in range(200):
                pipe.lines.put(b"%s %d" % (name, n))

        thread = threading.Thread(target=many, args=(b"thread",))
        thread.start()
        many(b"loop")
        thread.join()
        pipe.lines.flush()
        logged = pipe.written().splitlines()
        for name in (b"thread", b"loop"):
            mine = [line for line in logged if line.startswith(name)]
            assert mine == [b"%s %d" % (name, n) for n in range(200)]

    def test_a_line_that_comes_while_lines_are_written_neither_hangs_nor_is_lost(
        self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = json_lines._write

        def write_and_log(fd: int, data: bytes) -> None:
            write(fd, data)
            if data == b"first\n":
                pipe.lines.put(b"of a finalizer")

        monkeypatch.setattr(json_lines, "_write", write_and_log)
        pipe.lines.put(b"first")
        assert pipe.written() == b"first\nof a finalizer\n"

    def test_lines_stay_whole_if_the_reader_is_slow(self, pipe: Pipe) -> None:
        os.set_blocking(pipe.write_end, False)
        os.set_blocking(pipe.read_end, True)
        line = b"x" * 1_000_000
        got = bytearray()

        def read() -> None:
            while len(got) <= len(line):
                got.extend(os.read(pipe.read_end, 65_536))

        reader = threading.Thread(target=read)
        reader.start()
        pipe.lines.put(line)
        reader.join()
        assert got == line + b"\n"

    def test_what_nobody_reads_any_more_is_dropped(self) -> None:
        read_end, write_end = os.pipe()
        os.close(read_end)
        Lines(write_end).put(b"to nobody")
        os.close(write_end)

    @pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError"])
    def test_lines_are_written_before_the_process_ends(self, end: str) -> None:
        program = (
            "import asyncio, sys, structlog\n"
            "from shared.observability.logs import configure_logs\n"
            "configure_logs(service='s', boot_id='b', level='info', log_format='json')\n"
            "async def main():\n"
            "    structlog.get_logger('s').info('last')\n"
            f"    {end or 'pass'}\n"
            "asyncio.run(main())\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert json.loads(ended.stdout)["event"] == "last"
