"""The options of `python -m tools.load`, each with unit, limits and default."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from tools.load.plan import Bounds, Drop, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG: Final = """\
Without --url it starts a temporary stack (one gateway, one approval, a Redis) and pairs devices
there. With --url, the tokens are read from OPENCLAW_GATEWAY_TOKEN and APPROVAL_ADMIN_TOKEN; for
what `make run` started, from .data/secrets.env. The paired devices are removed at the end.

Exit status: 0 no problems, 1 a device was wrongly admitted or refused, or another problem was
found, 2 the test could not be run, 130 interrupted.
"""
_N = TypeVar("_N", int, float)

REMOTE: Final = Bounds()
RUNNING: Final = "running"
"""Value of `--url` without an address: what `make run` started here."""
MAX_SOURCES: Final = 250
WARM_UP_SECONDS: Final = 1.0


class UsageError(Exception):
    """An invalid command line; the text says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.format_usage()}{self.prog}: {message}")


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m tools.load",
        description="Load test for a Latchkey gateway, with approved devices that sign.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scenarios = parser.add_subparsers(
        dest="scenario", required=True, metavar="SCENARIO", parser_class=_Parser
    )

    def add(scenario: Scenario, text: str) -> argparse.ArgumentParser:
        entry = scenarios.add_parser(
            scenario.value, help=text, description=f"{text[0].upper()}{text[1:]}."
        )
        _common(entry)
        return entry

    closed = add(Scenario.CLOSED, "a fixed number of handshakes in flight (default)")
    _churning(closed, seconds=10)
    rate = add(Scenario.OPEN, "a fixed rate; latency counts from the intended start")
    _number(rate, "--rate", 1000, "N", "connections started per second", least=0.1)
    _churning(rate, seconds=10)
    rate.add_argument(
        "--poisson",
        action="store_true",
        help="start at random moments, as independent clients do; the rate is the average",
    )
    rate.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the random moments (default 0)"
    )
    rising = add(Scenario.RAMP, "an open loop whose rate changes in steps")
    _number(
        rising, "--from", 200, "N", "first rate, connections per second", least=0.1, dest="first"
    )
    _number(rising, "--to", 1000, "N", "last rate, connections per second", least=0.1, dest="last")
    _number(rising, "--step", 200, "N", "change of the rate per step", least=0.1)
    _number(rising, "--seconds", 5, "S", "length of each step", least=0.1)
    idle = add(Scenario.IDLE, "connections that are opened and held")
    _holding(idle, connections=10_000)
    _number(idle, "--seconds", 30, "S", "how long they are held", least=0.1)
    refusals = add(Scenario.REFUSALS, 'churn by unapproved devices: all "pairing required"')
    _churning(refusals, seconds=10)
    storm = add(
        Scenario.STORM, "connections dropped at once; measures the time until they are back"
    )
    _holding(storm, connections=1000)
    storm.add_argument(
        "--drop",
        choices=[*Drop],
        default=Drop.CLIENT,
        help="what ends them: client; restart (of the temporary stack's gateway); or wait (for "
        "you to do it; default: client)",
    )
    _number(storm, "--jitter", 1, "S", "each reconnects after up to this long", least=0)
    _number(storm, "--seconds", 60, "S", "--drop wait: how long to wait for the drop", least=1)
    revoke = add(
        Scenario.REVOKE,
        "connections whose devices are revoked; measures the time until all are closed",
    )
    _holding(revoke, connections=1000)
    revoke.add_argument(
        "--each", action="store_true", help="one device for each connection (default: one for all)"
    )
    soak = add(
        Scenario.SOAK, "a long closed loop; checks the servers' memory, and what is left over"
    )
    _churning(soak, seconds=300)
    return parser


def _churning(parser: argparse.ArgumentParser, *, seconds: float) -> None:
    _number(parser, "--seconds", seconds, "S", "duration", least=0.1)
    _number(parser, "--warm-up", WARM_UP_SECONDS, "S", "warm-up that is not counted", least=0)


def _holding(parser: argparse.ArgumentParser, *, connections: int) -> None:
    _whole(parser, "--connections", connections, "number of connections")


def _common(parser: argparse.ArgumentParser) -> None:
    load = parser.add_argument_group("load")
    _whole(
        load,
        "--in-flight",
        None,
        "handshakes at a time in a closed loop or while opening (64; remote 16), at most in an open "
        "loop (4096)",
    )
    _whole(
        load, "--devices", None, "number of devices that take turns (256; refusals 32; remote 32)"
    )
    _whole(load, "--workers", 1, "number of load processes")
    _whole(
        load,
        "--sources",
        None,
        "number of loopback source addresses (default: 8 handshakes in flight for each, at least "
        "16); with fewer, a gateway's limit of 32 may apply",
        most=MAX_SOURCES,
    )
    _number(load, "--timeout", 10, "S", "maximum duration of an attempt", least=0.1)
    load.add_argument(
        "--shared-token",
        action="store_true",
        help="connect with the gateway's token instead of the device tokens",
    )
    target = parser.add_argument_group("target")
    target.add_argument(
        "--url",
        nargs="?",
        const=RUNNING,
        default="",
        help="the gateway, ws://… or wss://…; without an address: what `make run` started here "
        "(default: start a temporary stack)",
    )
    target.add_argument(
        "--approval-url",
        default="",
        help="approval, http(s)://… (APPROVAL_URL, else what `make run` started here)",
    )
    target.add_argument(
        "--remote",
        action="store_true",
        help="confirm putting load on a target that is not this machine",
    )
    _number(
        target,
        "--allow-rate",
        REMOTE.rate,
        "N",
        "remote: connections started per second",
        least=0.1,
    )
    _number(target, "--allow-seconds", REMOTE.seconds, "S", "remote: maximum duration", least=1)
    _whole(
        target, "--allow-connections", REMOTE.connections, "remote: maximum number of connections"
    )
    target.add_argument(
        "--watch-pid",
        type=int,
        action="append",
        default=[],
        metavar="PID",
        help="process id of a server to sample",
    )
    report = parser.add_argument_group("report")
    report.add_argument("--json", type=Path, metavar="FILE", help="write the full report as JSON")
    report.add_argument(
        "--html", type=Path, metavar="FILE", help="write the report as one HTML page with plots"
    )


def _number(
    to: argparse._ActionsContainer,
    name: str,
    default: float,
    unit: str,
    text: str,
    *,
    least: float,
    dest: str | None = None,
) -> None:
    to.add_argument(
        name,
        type=_require_minimum(float, least),
        default=float(default),
        metavar=unit,
        dest=dest or name.strip("-").replace("-", "_"),
        help=f"{text}{', in seconds' if unit == 'S' else ''} (default {default:g})",
    )


def _whole(
    to: argparse._ActionsContainer,
    name: str,
    default: int | None,
    text: str,
    *,
    most: int = 1_000_000,
) -> None:
    shown = "" if default is None else f" (default {default})"
    to.add_argument(
        name,
        type=_require_minimum(int, 1, most),
        default=default,
        metavar="N",
        help=f"{text}{shown}",
    )


def _require_minimum(kind: type[_N], minimum: float, maximum: float = 1e9) -> Callable[[str], _N]:
    def read(text: str) -> _N:
        value = kind(text)
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"{text}: from {minimum:g} to {maximum:g}")
        return value

    return read
