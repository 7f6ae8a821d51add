"""HAProxy and nginx before the bare server: what a proxy adds to a plain WebSocket upgrade."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tools.bench.relay.proxies import HAPROXY, NGINX, haproxy, nginx
from tools.bench.subjects import Subject
from tools.load.server.processes import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.bench.relay.proxies import Relaying


def before_bare(name: str) -> str:
    """Return the name of a proxy's row."""
    return f"{name} before the bare server"


@contextmanager
def proxied(directory: Path, bare: Subject, core: int) -> Iterator[dict[str, Subject | None]]:
    """Start the proxies before the bare server, on its core; None for one that is not installed."""
    port = bare.system.target.port
    with ExitStack() as stack:
        found: dict[str, Subject | None] = {}
        for name, start in ((HAPROXY, haproxy), (NGINX, nginx)):
            own = directory / name
            own.mkdir(parents=True)
            relaying = stack.enter_context(start(own, port, core))
            found[before_bare(name)] = None if relaying is None else _subject(relaying, bare)
        yield found


def _subject(relaying: Relaying, bare: Subject) -> Subject:
    """Return the proxy and the server behind it as one subject."""
    watched = (*(Watched(relaying.name, pid) for pid in relaying.pids), *bare.system.watched)
    system = replace(bare.system, target=relaying.target, watched=watched)
    return Subject(before_bare(relaying.name), system, bare.identities)
