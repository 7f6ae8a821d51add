"""A scripted approval API for the command's own tests."""

from __future__ import annotations

import json
import threading
from contextlib import chdir, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from services.cli.root import latchkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

TOKEN = "admin-token-of-32-characters-000"
DEVICE_ID = "eb62a6715dee6fc0d83d90834d95412ab47164757e76ccf0dd8b5a6e67a7e601"
REQUEST_ID = "220dd984-79b3-4860-a084-c16f321f9dec"


class Api:
    """Answers by (method, path), otherwise with 404. `asked` records the calls."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, str, bytes]] = {}
        self.headers: dict[str, str] = {}
        self.then: dict[tuple[str, str], Callable[[], object]] = {}
        """Runs after each answered call."""
        self.asked: list[tuple[str, str, str]] = []
        self.url = ""

    def say(self, method: str, path: str, body: Any, status: int = 200) -> None:
        """Answer with JSON; as a problem if the status is not 200."""
        kind = "application/json" if status == 200 else "application/problem+json"
        self.answers[method, path] = (status, kind, json.dumps(body).encode())

    def problem(self, method: str, path: str, status: int, name: str, **more: Any) -> None:
        """Answer with a problem."""
        about = {"title": f"Title of {name}", "detail": "Its detail.", "status": status}
        self.say(method, path, {"type": f"urn:latchkey:problem:{name}", **about, **more}, status)

    def wait_with(self, *pending: dict[str, Any]) -> None:
        """Set these pending requests and no paired device."""
        self.say("GET", "/v1/requests", {"pending": list(pending)})
        self.say("GET", "/v1/devices", {"devices": []})
        for request in pending:
            self.problem("GET", f"/v1/devices/{request['deviceId']}", 404, "unknown-device")

    @property
    def changed(self) -> list[str]:
        """The paths of all calls that were not GETs."""
        return [path for method, path, _ in self.asked if method != "GET"]


def pending(**other: Any) -> dict[str, Any]:
    """Return a pending request."""
    return {
        "requestId": REQUEST_ID,
        "deviceId": DEVICE_ID,
        "publicKey": "key",
        "displayName": "Kitchen Mac",
        "platform": "darwin",
        "clientId": "cli",
        "clientMode": "cli",
        "role": "operator",
        "roles": ["operator"],
        "scopes": ["operator.read"],
        "remoteIp": "203.0.113.9",
        "silent": False,
        "isRepair": False,
        "ts": 1_795_328_618_962,
        "lastAskedAtMs": 1_795_328_618_962,
        **other,
    }


def paired(**other: Any) -> dict[str, Any]:
    """Return a paired device."""
    about = {key: value for key, value in pending().items() if key not in _ONLY_PENDING}
    times = {"createdAtMs": 1_795_328_627_337, "approvedAtMs": 1_795_328_627_337}
    return {**about, **times, "approvedVia": "owner", **other}


_ONLY_PENDING = {"requestId", "silent", "isRepair", "ts", "lastAskedAtMs"}


@contextmanager
def serving() -> Iterator[Api]:
    """Serve an Api on a free port."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            api.asked.append((self.command, self.path, body))
            none = (404, "text/plain", b"nothing here")
            listed = "/v1/devices"  # however it is asked for: what is told is one part, the last
            path = listed if self.path.startswith(f"{listed}?") else self.path
            status, kind, output = api.answers.get((self.command, path), none)
            self.send_response(status)
            for name, value in {"Content-Type": kind, **api.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(output)))
            self.end_headers()
            api.then.get((self.command, self.path), lambda: None)()
            self.wfile.write(output)

        def log_request(self, *_: object) -> None:
            """Log nothing."""

    for verb in ("GET", "POST", "PATCH", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()


def run(api: Api | None, *arguments: str, token: str | None = TOKEN, **env: str) -> Result:
    """Run the command against an Api, with only these settings."""
    around: dict[str, str | None] = {
        "APPROVAL_URL": api.url if api else None,
        "APPROVAL_ADMIN_TOKEN": token,
        "OPENCLAW_GATEWAY_TOKEN": None,
        "BUS_SECRET": None,
        "TOKEN_SECRET": None,
        "APPROVAL_PUBLIC_URL": None,
        **env,
    }
    with TemporaryDirectory() as empty, chdir(empty):  # no secrets file but the one that is named
        around.setdefault("DATA_DIR", empty)
        return CliRunner().invoke(latchkey, [*arguments], env=around, prog_name="latchkey")
