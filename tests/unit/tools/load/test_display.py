from __future__ import annotations

import io

from tools.load.display import CLEAR_LINE, Display
from tools.load.recording import Point

POINT = Point(
    at=1.0,
    admitted=4000.0,
    refused=0.0,
    others=3.0,
    p50_us=12_340,
    p99_us=56_780,
    in_flight=64,
    held=0,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_one_line_is_written_over() -> None:
    stream = Terminal()
    display = Display(stream)
    for second in range(3):
        display.point("closed", second, POINT, "gateway 98%")
    display.close()
    assert "\n" not in stream.getvalue()
    last = stream.getvalue().split(CLEAR_LINE)[-2]
    for part in ("closed", "4000 admitted/s", "p99 56.8 ms", "3 other/s", "gateway 98%"):
        assert part in last


def test_elsewhere_there_are_plain_lines_now_and_then() -> None:
    stream = io.StringIO()
    display = Display(stream)
    for second in range(3):
        display.point("closed", second, POINT, "")
    display.count("devices paired", 1, 2)
    display.count("devices paired", 2, 2)
    display.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "4000 admitted/s" in lines[0]
    assert lines[1] == "devices paired: 2"
    assert "\x1b" not in stream.getvalue()
