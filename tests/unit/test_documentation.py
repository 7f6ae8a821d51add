"""The documentation names what exists, and nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.approval import log_events as approval_events
from services.gateway import log_events as gateway_events
from tools.capacity.costs import MEASURED
from tools.capacity.storms import MEASURED_STORMS
from tools.capacity.tables import sizes_table, storms_table
from tools.drills.attacks import ALL as ATTACKS
from tools.drills.attacks.table import HEADINGS as ATTACK_HEADINGS
from tools.drills.faults import ALL as FAULTS
from tools.drills.faults.sentinel import FAULTS as SENTINEL_FAULTS
from tools.drills.judging.table import HEADINGS
from tools.drills.stack import settings as drill_settings

if TYPE_CHECKING:
    from tools.drills.fault import Fault

ROOT = Path(__file__).parents[2]


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_all_declared_log_events_are_in_the_lists() -> None:
    for module in (gateway_events, approval_events):
        declared = {
            value for name, value in vars(module).items() if name.isupper() and name != "ALL"
        }
        assert declared == set(module.ALL)


@pytest.mark.parametrize(
    "page",
    sorted(str(p.relative_to(ROOT)) for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))),
)
def test_every_link_in_the_documents_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if "://" not in target:
            path = (ROOT / page).parent / target if target else ROOT / page
            assert path.exists(), f"{page} links to {target}"
            assert not anchor or anchor in anchors(path), f"{page} links to {target}#{anchor}"


def test_the_tree_in_contributing_names_what_there_is() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text().split("## Where things are", 1)[1].split("```")[1]
    for line in tree.strip().splitlines():
        assert (ROOT / line.split()[0]).exists(), line


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"(?m)(?:`|^    )make ([a-z][a-z-]*)", (ROOT / page).read_text()):
            assert f"\n{target}:" in makefile, f"{page} names make {target}"


def test_what_make_prints_fits_a_terminal() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607  as people type it
    lines = said.stdout.splitlines()
    assert len(lines) >= 15
    assert max(map(len, lines)) < 80


def test_the_page_on_capacity_quotes_what_the_command_prints() -> None:
    page = (ROOT / "docs/capacity.md").read_text()
    quoted = [block.split("```")[0].strip("\n") for block in page.split("```text\n")[1:]]
    assert quoted == [
        sizes_table(MEASURED, MEASURED_STORMS),
        storms_table(MEASURED_STORMS, MEASURED),
    ]


@pytest.mark.parametrize(("page", "faults"), [("drill", FAULTS), ("redis", SENTINEL_FAULTS)])
def test_the_quoted_drill_has_every_fault_and_no_other(
    page: str, faults: tuple[Fault, ...]
) -> None:
    text = (ROOT / f"docs/results/{page}.md").read_text()
    table = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in text.split("\n## ")[0].splitlines()
        if line.startswith("|")
    ]
    assert table[0] == HEADINGS
    assert [row[0] for row in table[2:]] == [fault.name for fault in faults]


def test_each_quoted_table_of_attacks_has_every_attack_and_no_other() -> None:
    text = (ROOT / "docs/results/attacks.md").read_text()
    tables = [
        [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in part.splitlines()]
        for part in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    ]
    assert tables
    for table in tables:
        assert table[0] == ATTACK_HEADINGS
        assert [row[0] for row in table[2:]] == [attack.name for attack in ATTACKS]


@pytest.mark.parametrize("name", ["LEASE_SECONDS", "BEAT_SECONDS", "DRAIN_SECONDS"])
def test_the_shortened_settings_of_the_drill_are_shown(name: str) -> None:
    told = f"`{name}={getattr(drill_settings, name):g}`"
    assert told in (ROOT / "docs/reliability.md").read_text()
