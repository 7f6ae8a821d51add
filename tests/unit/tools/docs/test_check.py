"""The generated reference pages are current, and a stale one is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.gateway import log_events
from tools.docs.__main__ import main
from tools.docs.pages import REFERENCE, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Return a directory with freshly generated pages."""
    write(tmp_path)
    return tmp_path


def check(directory: Path) -> int:
    """Run the check on a directory; return its exit status."""
    return main(["--check", "--directory", str(directory)])


def test_the_committed_pages_are_current() -> None:
    assert check(REFERENCE) == 0


def test_a_changed_page_is_stale_until_it_is_written_again(
    pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = pages / "settings.md"
    settings.write_text(
        settings.read_text().replace("`LEASE_SECONDS` | `10`", "`LEASE_SECONDS` | `11`")
    )
    assert check(pages) == 1
    received = capsys.readouterr().err
    assert "settings.md" in received
    assert "make docs" in received
    assert "metrics.md" not in received
    write(pages)
    assert check(pages) == 0


def test_a_missing_page_is_stale(pages: Path) -> None:
    (pages / "metrics.md").unlink()
    assert check(pages) == 1


def test_a_page_that_nothing_generates_is_stale_and_is_deleted(pages: Path) -> None:
    (pages / "old.md").write_text("# Old\n")
    assert check(pages) == 1
    write(pages)
    assert not (pages / "old.md").exists()


def test_what_the_code_declares_reaches_the_pages(
    pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed declaration, rather than a changed page, makes the page stale."""
    changed = log_events.LEASE_LOST._replace(meaning="Something else.")
    monkeypatch.setattr(log_events, "ALL", (changed, *log_events.ALL[1:]))
    assert check(pages) == 1
