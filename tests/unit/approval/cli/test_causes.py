"""The table of causes: complete, distinct, produced for real, and the same in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

from services.approval.cli import causes
from tests.unit.approval.cli.api import run

ROOT = Path(__file__).parents[4]
PRODUCED = sorted((ROOT / "tests/e2e").glob("test_doctor*.py"))
PAGE = (ROOT / "docs/troubleshooting.md").read_text()


def test_each_has_its_own_name_and_says_everything() -> None:
    ids = [cause.id for cause in causes.ALL]
    assert len(set(ids)) == len(ids) >= 20
    for cause in causes.ALL:
        assert all(text.strip() == text and text for text in cause), cause.id
        assert "|" not in "".join(cause), f"{cause.id} would break the table"
        assert cause.meaning.endswith(".")


def test_every_one_is_produced_for_real_by_a_test() -> None:
    tested = {
        name for path in PRODUCED for name in re.findall(r"causes\.([A-Z_]+)\b", path.read_text())
    }
    declared = {name for name, value in vars(causes).items() if isinstance(value, causes.Cause)}
    assert declared == tested


def test_every_one_is_found_by_the_doctor() -> None:
    package = ROOT / "services/approval/cli/doctor"
    used = {
        name
        for path in package.glob("*.py")
        for name in re.findall(r"causes\.([A-Z_]+)\b", path.read_text())
    }
    declared = {name for name, value in vars(causes).items() if isinstance(value, causes.Cause)}
    assert declared == used


def test_the_page_holds_the_same_rows() -> None:
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split(" | "))
        for line in PAGE.splitlines()
        if re.match(r"\| `[a-z-]+` \|", line)
    ]
    assert rows == [(f"`{cause.id}`", cause.seen, *cause.filled({})) for cause in causes.ALL]


def test_what_they_name_exists() -> None:
    settings = (ROOT / "docs/operations.md").read_text()
    for cause in causes.ALL:
        for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", cause.cure.replace("RAILWAY_", "")):
            known = f"`{name}`" in settings or name in _OF_OTHERS
            assert known, f"{cause.id} names {name}"
        for words in re.findall(r"`latchkey ([a-z]+ [a-z]+)", cause.filled({})[1]):
            assert run(None, *words.split(), "--help").exit_code == 0


_OF_OTHERS = {
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "DEPLOYMENT_DRAINING_SECONDS",
    "APPROVAL_URL",
    "PENDING_LIMIT_PER_ADDRESS",
}
