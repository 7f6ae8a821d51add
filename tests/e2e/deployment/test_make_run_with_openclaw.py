"""`make run UPSTREAM=openclaw` with a substitute for OpenClaw whose start the test controls."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.deployment.make_run import READY_SECONDS, running
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

# On a machine without Redis the first of these fetches one.
pytestmark = pytest.mark.timeout(180)
HEALTH_PROBES: Final = 4
"""Two by each gateway: by the second, 5 s after the first, the gateways have long been ready."""
STARTS_SLOWLY: Final = """\
#!{python}
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

here = Path({here!r})


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        with (here / "asked").open("a") as asked:
            asked.write(self.path + "\\n")
        answers = self.path == "/startupz" or (here / "healthy").exists()
        self.send_response(200 if answers else 503)
        self.end_headers()
        self.wfile.write(b'{{"ok": true, "status": "started"}}')


port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
RUN: Final = """\
import sys
from pathlib import Path

from deploy.local.__main__ import main
from deploy.local.programs import openclaw

openclaw.OPENCLAW_PACKAGE = Path({package!r})
sys.exit(main())
"""


def test_the_addresses_are_printed_once_every_gateway_reaches_openclaw(tmp_path: Path) -> None:
    package = tmp_path / "package"
    node = package / "node_modules" / ".bin" / "node"
    node.parent.mkdir(parents=True)
    node.write_text(STARTS_SLOWLY.format(python=sys.executable, here=str(tmp_path)))
    node.chmod(0o700)
    asked = tmp_path / "asked"
    asked.touch()
    program = ("-c", RUN.format(package=str(package)))
    with running(tmp_path, program=program, UPSTREAM="openclaw") as run:
        wait_until(
            lambda: asked.read_text().count("/health") >= HEALTH_PROBES or run.has_ended,
            "the gateways ask OpenClaw",
            seconds=READY_SECONDS,
        )
        assert "/startupz" in asked.read_text(), run.output
        assert "Starting OpenClaw" in run.output
        assert "ready" not in run.output
        (tmp_path / "healthy").touch()
        run.wait_ready()
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_ended() == 0
