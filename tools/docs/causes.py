"""Page on failed connections: the doctor's causes and the reasons for refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.domain.refusal_reasons import REASONS
from services.cli.doctor import causes as latchkey
from services.cli.doctor import openclaw_causes, redis_causes, upstream_causes
from services.cli.doctor.cause import Cause
from tools.docs.markdown import code, page, section, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def causes() -> str:
    """Return the page of causes."""
    return page(
        "Why a device cannot connect",
        "`latchkey doctor` names one of these causes (`cause` with `--json`). Without the doctor,"
        " look for what you see: a close code and its reason, an error of OpenClaw's command, or"
        " what the dashboard does. Replace words in capitals by your own values."
        " [Troubleshooting](../troubleshooting.md) says where to start.",
        *(section(title, _causes(rows)) for title, rows in _sections()),
        section("Redis and its sentinels", _causes(redis_causes.ALL)),
        section("Plain OpenClaw gateways", _causes(openclaw_causes.ALL)),
        section("OpenClaw behind Latchkey", _causes(upstream_causes.ALL)),
        section(
            "Reasons for refusals",
            "The gateway logs one of these as `outcome`, and `GET /v1/refusals`, Manage Devices and"
            " `latchkey devices why` show it.",
            _reasons(),
        ),
    )


def _sections() -> Iterator[tuple[str, list[Cause]]]:
    """Yield Latchkey's causes by section, in the order of declaration."""
    declared = [value for value in vars(latchkey).values() if isinstance(value, Cause)]
    starts = [declared.index(first) for first in latchkey.SECTIONS.values()]
    for title, start, end in zip(
        latchkey.SECTIONS, starts, [*starts[1:], len(declared)], strict=True
    ):
        yield title, declared[start:end]


def _causes(rows: Iterable[Cause]) -> str:
    return table(
        ("cause", "what you see", "what it means", "what to do"),
        [(code(row.id), row.seen, *row.filled({})) for row in rows],
    )


def _reasons() -> str:
    return table(
        ("reason", "what it means", "what to do", "cause"),
        [
            (code(item.code), item.title, item.remedy, code(item.cause) if item.cause else "")
            for item in REASONS.values()
        ],
    )
