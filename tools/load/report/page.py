"""The report as a single self-contained HTML page, for light and dark color schemes."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from tools.load.report.charts import over_time, percentiles, servers_over_time
from tools.load.report.style import STYLE
from tools.load.report.text import left_of, moments_of, plan_in_words, server_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.load.report.report import PhaseReport, Report

SHORT_MS: Final = 100
WORDS: Final = frozenset({"said", "close reason", "process", "used"})
"""Columns with text; all others contain numbers."""
SAID: Final = ' class="said"'


def as_page(report: Report) -> str:
    """Return the page as HTML."""
    counted = [phase for phase in report.phases if phase.counted]
    parts = [
        _head(report),
        _figures(report, counted),
        _phases(report.phases),
        _outcomes(report),
        over_time(report),
        percentiles(report),
        servers_over_time(report),
        _servers(counted),
        _foot(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Latchkey: {escape(report.scenario)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{''.join(parts)}</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    verdict = (
        "".join(f'<p class="wrong">{escape(finding)}</p>' for finding in report.findings)
        or '<p class="fine">Every device was admitted or refused correctly.</p>'
    )
    if report.machine_busy:
        verdict += f'<p class="wrong">{escape(_sentence(report.machine_busy))}</p>'
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes)
    when = report.at.replace("T", " ").replace("+00:00", " UTC")
    return (
        f"<header><h1>{escape(report.scenario)}</h1>"
        f"<p>{escape(report.target)} · {escape(when)}</p>{verdict}{notes}</header>\n"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _figures(report: Report, counted: Sequence[PhaseReport]) -> str:
    figures = moments_of(report.moments)
    main = max(counted, key=lambda phase: phase.latency_ms.count)
    latency = main.latency_ms
    if latency.count:
        name = "refusals" if report.scenario == "refusals" else "admissions"
        figures += [
            (f"{main.per_second:,.0f}/s", name),
            (_ms(latency.p50), "half within"),
            (_ms(latency.p99), "99 % within"),
        ]
    figures += [
        (f"{use.cpu_us_each:,.0f} µs", f"CPU each, {use.role}")
        for use in main.servers
        if use.cpu_us_each is not None
    ]
    figures += [
        (f"{use.bytes_per_connection / 1024:,.1f} KB", f"a connection, {use.role}")
        for use in counted[-1].servers
        if use.bytes_per_connection is not None
    ]
    figures += [(f"{count:,}", f"{label} left over") for count, label in left_of(report.left_over)]
    cells = "".join(
        f"<div><strong>{escape(value)}</strong><span>{escape(label)}</span></div>"
        for value, label in figures
    )
    return f'<section class="figures">{cells}</section>\n'


def _ms(value: float) -> str:
    return f"{value:,.1f} ms" if value < SHORT_MS else f"{value:,.0f} ms"


def _phases(phases: Sequence[PhaseReport]) -> str:
    heads = ("", "seconds", "verdicts", "a second", "p50 ms", "p90", "p99", "p99.9", "max")
    rows = ""
    for phase in phases:
        latency = phase.latency_ms
        times = (latency.p50, latency.p90, latency.p99, latency.p999, latency.max)
        numbers = [f"{phase.seconds:.1f}", f"{latency.count:,}", f"{phase.per_second:,.0f}"]
        numbers += [f"{ms:,.1f}" if latency.count else "" for ms in times]
        name = f"{escape(phase.name)}{'' if phase.counted else ' (not counted)'}"
        cells = "".join(
            _cell(head, number) for head, number in zip(heads[1:], numbers, strict=True)
        )
        rows += f"<tr><th>{name}</th>{cells}</tr>"
    return _table("Phases", heads, rows)


def _outcomes(report: Report) -> str:
    total: dict[tuple[str, str, int, str], int] = {}
    for row in [row for phase in report.phases for row in phase.outcomes] + report.moments.closes:
        key = row.kind, row.what, row.close_code, row.close_reason
        total[key] = total.get(key, 0) + row.count
    rows = "".join(
        f'<tr><th class="{_class(kind)}">{escape(kind)}</th>{_cell("said", what)}'
        f"{_cell('close code', str(code or ''))}{_cell('close reason', reason)}"
        f"{_cell('count', f'{count:,}')}</tr>"
        for (kind, what, code, reason), count in sorted(total.items(), key=lambda item: -item[1])
    )
    return _table("Results of attempts", ("", "said", "close code", "close reason", "count"), rows)


def _class(kind: str) -> str:
    if kind.startswith("wrongly"):
        return "wrong"
    return "fine" if kind in {"admitted", "refused"} else "other"


def _servers(counted: Sequence[PhaseReport]) -> str:
    rows = "".join(
        f"<tr><th>{escape(phase.name)}</th>{_cell('process', use.role)}"
        f"{_cell('used', server_text(use, grows=True))}</tr>"
        for phase in counted
        for use in phase.servers
    )
    return _table("Servers", ("phase", "process", "used"), rows) if rows else ""


def _table(title: str, heads: Sequence[str], rows: str) -> str:
    head = "".join(f"<th{SAID if text in WORDS else ''}>{escape(text)}</th>" for text in heads)
    return (
        f"<section><h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></section>\n"
    )


def _cell(head: str, text: str) -> str:
    """Return a cell with its column's heading, which narrow pages show beside it."""
    message = SAID if head in WORDS else ""
    return f'<td{message} data-label="{escape(head)}">{escape(text)}</td>'


def _foot(report: Report) -> str:
    plan = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in plan_in_words(report.plan)
    )
    load = ", ".join(f"{worker.busy:.0%} of a core" for worker in report.workers)
    late = max((worker.late_ms for worker in report.workers), default=0.0)
    return (
        f"<footer><dl>{plan}</dl><p>The load used {escape(load)}; no start was later than "
        f"{late:.1f} ms. {escape(report.machine)}.</p></footer>\n"
    )
