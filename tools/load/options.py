"""The words that `python -m tools.load` takes, each with its unit, its bounds and its default."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from tools.load.plan import Bounds, Drop, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG: Final = """\
Without --url it starts a stack of its own (one gateway, one approval, a Redis), pairs its devices,
and ends all of it. With --url, the tokens come from the environment, OPENCLAW_GATEWAY_TOKEN and
APPROVAL_ADMIN_TOKEN; for what `make run` started, from .data/secrets.env. The devices it pairs are
removed again.

Exit status: 0 all was as it should be, 1 a device was wrongly admitted or refused or something else
that may not happen did, 2 it could not be run, 130 interrupted.
"""
_N = TypeVar("_N", int, float)

REMOTE: Final = Bounds()
RUNNING: Final = "running"
"""What `--url` without an address means: what `make run` started here."""
SOURCES_MOST: Final = 250
WARM_UP_SECONDS: Final = 1.0


class UsageError(Exception):
    """What was typed makes no plan; the text says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.format_usage()}{self.prog}: {message}")


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m tools.load",
        description="Load for a Latchkey gateway, by devices that sign and were approved before.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scenarios = parser.add_subparsers(
        dest="scenario", required=True, metavar="SCENARIO", parser_class=_Parser
    )

    def add(scenario: Scenario, text: str) -> argparse.ArgumentParser:
        one = scenarios.add_parser(
            scenario.value, help=text, description=f"{text[0].upper()}{text[1:]}."
        )
        _common(one)
        return one

    closed = add(
        Scenario.CLOSED, "so many handshakes in flight, each followed by the next (default)"
    )
    _churning(closed, seconds=10)
    rate = add(Scenario.OPEN, "so many a second; latency counts from when each was to begin")
    _number(rate, "--rate", 1000, "N", "connections begun a second", least=0.1)
    _churning(rate, seconds=10)
    rising = add(Scenario.RAMP, "an open loop whose rate rises step by step")
    _number(rising, "--from", 200, "N", "first rate, connections a second", least=0.1, dest="first")
    _number(rising, "--to", 1000, "N", "last rate, connections a second", least=0.1, dest="last")
    _number(rising, "--step", 200, "N", "by how much it changes", least=0.1)
    _number(rising, "--seconds", 5, "S", "length of each step", least=0.1)
    idle = add(Scenario.IDLE, "connections opened and held")
    _holding(idle, connections=10_000)
    _number(idle, "--seconds", 30, "S", "how long they are held", least=0.1)
    refusals = add(
        Scenario.REFUSALS, 'churn by devices that nobody approved: all "pairing required"'
    )
    _churning(refusals, seconds=10)
    storm = add(
        Scenario.STORM, "connections held, all dropped at once; how long until they are back"
    )
    _holding(storm, connections=1000)
    storm.add_argument(
        "--drop",
        choices=[*Drop],
        default=Drop.CLIENT,
        help="who ends them: the client; a restart of the gateway (a stack of its own); or wait for "
        "somebody else to (default: client)",
    )
    _number(storm, "--jitter", 1, "S", "each comes back after up to this long", least=0)
    _number(storm, "--seconds", 60, "S", "--drop wait: how long to wait for it", least=1)
    revoke = add(
        Scenario.REVOKE, "connections held, their devices revoked; how long until all are out"
    )
    _holding(revoke, connections=1000)
    revoke.add_argument(
        "--each", action="store_true", help="a device for each connection (default: one for all)"
    )
    soak = add(
        Scenario.SOAK, "closed for minutes; what the servers' memory does, and what is left over"
    )
    _churning(soak, seconds=300)
    return parser


def _churning(parser: argparse.ArgumentParser, *, seconds: float) -> None:
    _number(parser, "--seconds", seconds, "S", "how long", least=0.1)
    _number(parser, "--warm-up", WARM_UP_SECONDS, "S", "run so long before it counts", least=0)


def _holding(parser: argparse.ArgumentParser, *, connections: int) -> None:
    _whole(parser, "--connections", connections, "how many")


def _common(parser: argparse.ArgumentParser) -> None:
    load = parser.add_argument_group("load")
    _whole(
        load,
        "--in-flight",
        None,
        "handshakes at a time in a closed loop or while opening (64; remote 16), at most in an open "
        "loop (4096)",
    )
    _whole(load, "--devices", None, "devices that take turns (256; refusals 32; remote 32)")
    _whole(load, "--workers", 1, "processes that make the load")
    _whole(
        load,
        "--sources",
        None,
        "loopback addresses it comes from (as many as keep each at 8 in flight, at least 16); fewer "
        "run into a gateway's limit of 32",
        most=SOURCES_MOST,
    )
    _number(load, "--timeout", 10, "S", "what an attempt may take", least=0.1)
    load.add_argument(
        "--shared-token",
        action="store_true",
        help="connect with the gateway's token, not each device's own",
    )
    target = parser.add_argument_group("target")
    target.add_argument(
        "--url",
        nargs="?",
        const=RUNNING,
        default="",
        help="the gateway, ws://… or wss://…; without an address: what `make run` started here "
        "(default: start a stack of its own)",
    )
    target.add_argument(
        "--approval-url",
        default="",
        help="approval, http(s)://… (APPROVAL_URL, else what `make run` started here)",
    )
    target.add_argument(
        "--remote", action="store_true", help="yes, put load on a target that is not this machine"
    )
    _number(
        target, "--allow-rate", REMOTE.rate, "N", "remote: connections begun a second", least=0.1
    )
    _number(target, "--allow-seconds", REMOTE.seconds, "S", "remote: longest run", least=1)
    _whole(target, "--allow-connections", REMOTE.connections, "remote: most connections held")
    target.add_argument(
        "--watch-pid",
        type=int,
        action="append",
        default=[],
        metavar="PID",
        help="a server to sample",
    )
    report = parser.add_argument_group("report")
    report.add_argument("--json", type=Path, metavar="FILE", help="write all of it as JSON")
    report.add_argument("--html", type=Path, metavar="FILE", help="write one page with plots")


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
        type=_at_least(float, least),
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
        name, type=_at_least(int, 1, most), default=default, metavar="N", help=f"{text}{shown}"
    )


def _at_least(kind: type[_N], least: float, most: float = 1e9) -> Callable[[str], _N]:
    def read(text: str) -> _N:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: from {least:g} to {most:g}")
        return value

    return read
