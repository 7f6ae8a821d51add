"""All generated pages, and how they are written and compared with the files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.docs.alerts import alerts
from tools.docs.causes import causes
from tools.docs.command import command
from tools.docs.http_api import http_api
from tools.docs.markdown import page
from tools.docs.services import log_events, metrics, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REFERENCE: Final = Path(__file__).parents[2] / "docs/reference"
_PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "settings.md": settings,
    "metrics.md": metrics,
    "alerts.md": alerts,
    "log-events.md": log_events,
    "http-api.md": http_api,
    "command.md": command,
    "causes.md": causes,
}


def generate() -> dict[str, str]:
    """Return the text of every page by its file name."""
    pages = {name: make() for name, make in _PAGES.items()}
    return {"README.md": _index(pages), **pages}


def write(directory: Path) -> None:
    """Write all pages, and delete those that are no longer generated."""
    directory.mkdir(exist_ok=True)
    pages = generate()
    for name, text in pages.items():
        (directory / name).write_text(text)
    for path in directory.glob("*.md"):
        if path.name not in pages:
            path.unlink()


def stale(directory: Path) -> Iterator[str]:
    """Yield the names of pages that differ from what the code declares."""
    pages = generate()
    found = {path.name: path.read_text() for path in directory.glob("*.md")}
    yield from sorted(
        name for name in pages.keys() | found.keys() if pages.get(name) != found.get(name)
    )


def _index(pages: Mapping[str, str]) -> str:
    titles = [(name, text.split("\n# ", 1)[1].splitlines()[0]) for name, text in pages.items()]
    links = "\n".join(f"* [{title}]({name})" for name, title in titles)
    return page("Reference", "What the code declares, one page for each kind.", links)
