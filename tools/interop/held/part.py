"""The part of held clients: one Latchkey that holds them, and clients of both protocols."""

from __future__ import annotations

from typing import Final

from tools.interop.cases import Case, Row, run_case
from tools.interop.cli.program import package, version_of
from tools.interop.held.scenario import HeldScenario
from tools.interop.latchkey import running
from tools.interop.plan import Plan, Report
from tools.interop.reference.client import reference_client

Cases = tuple[Case[HeldScenario], ...]

SETTINGS: Final = {"GATEWAY_WAIT_SECONDS": "30", "LOG_FORMAT": "json"}
_ADMITTED: Final = "admitted after a hold"
_REFUSED: Final = "pairing-required after a hold"
_COMMAND: Final[Cases] = (
    Case(
        "cron list, approved", HeldScenario.command_approved, ("exit 1", "not refused", _ADMITTED)
    ),
    Case(
        "cron list, rejected",
        HeldScenario.command_rejected,
        ("exit 1", "prints pairing required", _REFUSED),
    ),
    Case(
        "cron list, undecided",
        HeldScenario.command_undecided,
        ("exit 1", "prints pairing required", _REFUSED),
    ),
)
_MORE: Final[Cases] = (
    Case(
        "devices list, approved for more",
        HeldScenario.command_approved_for_more,
        ("exit 0", "lists devices"),
    ),
)
_NODE: Final[Cases] = (
    Case("node run, approved", HeldScenario.node_approved, (_ADMITTED, "runs")),
    Case("node run, undecided", HeldScenario.node_undecided, (_REFUSED,)),
)
_REFERENCE: Final[Cases] = (
    Case("reference client, approved", HeldScenario.reference_approved, (_ADMITTED,)),
    Case(
        "reference client, undecided",
        HeldScenario.reference_undecided,
        (_REFUSED, "names the request"),
    ),
)
CASES: Final[dict[int, Cases]] = {
    4: (*_COMMAND[:1], *_MORE, *_COMMAND[1:], *_NODE, *_REFERENCE),
    3: (*_COMMAND, *_NODE),
}


async def held_part(plan: Plan) -> Report:
    """Run every case with both releases. Raises RunFailed or Unexpected."""
    rows: list[Row] = []
    data = plan.data / "held"
    async with (
        running(data, plan.heard, SETTINGS) as latchkey,
        reference_client() as reference,
    ):
        for protocol, cases in CASES.items():
            own = [
                Row(
                    "held connections",
                    version_of(package(protocol)),
                    f"protocol {protocol}",
                    case.name,
                    case.expected,
                    rounds=plan.rounds,
                )
                for case in cases
            ]
            rows += own
            for number in range(plan.rounds):
                home = plan.data / f"held-home-{protocol}-{number}"
                home.mkdir()
                scenario = HeldScenario(latchkey, reference, home, data / "logs", protocol)
                for row, case in zip(own, cases, strict=True):
                    await run_case(row, case, scenario)
    return Report(rows)
