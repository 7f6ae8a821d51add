"""What gateways and the doctor report about the upstream, also while it is unreachable."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from services.cli.doctor import upstream_causes
from services.cli.doctor.journey import State
from tests.e2e.relay.upstream import SECRET
from tests.support.http.plain_http import ask
from tests.support.stubs.upstream import stub_upstream
from tools.support.actors import SimulatedDevice
from tools.support.waiting import wait_until
from tools.support.walking import findings_of

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tests.support.stubs.upstream import StubUpstream
    from tools.support.actors import Operator
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack


TLS: Final = Path(__file__).parents[2] / "integration" / "bus" / "tls"

pytestmark = pytest.mark.usefixtures("no_lockouts")


async def test_the_list_of_replicas_shows_each_gateways_view_of_the_upstream(
    stack: Stack, operator: Operator, upstream: StubUpstream
) -> None:
    async def seen() -> list[Any]:
        live = (await operator.call("GET", "replicas")).ok()["gateways"]
        found = {replica["bootId"]: replica.get("upstream") for replica in live}
        return [found.get(gateway.boot_id) for gateway in stack.gateways]

    # The stub answers `/health`, and speaks no protocol.
    wrong = {"reachable": True, "problems": ["upstream-no-openclaw"]}
    found: list[Any] = []
    for _ in range(100):
        found = await seen()
        if found == [wrong, wrong, None]:
            break
        await asyncio.sleep(0.2)
    assert found == [wrong, wrong, None]
    ready = (await ask(stack.gateways[0].port, "/readyz")).json["dependencies"]["upstream"]
    assert (ready["ok"], ready["warnings"]) == (True, ["upstream-no-openclaw"])
    assert upstream.asked("/health") > 1


async def test_pages_and_the_doctor_report_an_unreachable_upstream_until_it_returns(
    start_stack: StartStack,
) -> None:
    with stub_upstream() as gone:
        port = gone.port
    stack = start_stack(
        gateways=1,
        gateway_env={"UPSTREAM_URL": f"ws://127.0.0.1:{port}", "UPSTREAM_SECRET": SECRET},
    )
    gateway = stack.gateways[0]
    page = await ask(gateway.port, "/chat", headers={"Accept": "text/html"})
    assert page.status == 503
    assert b"OpenClaw cannot be reached" in page.body
    assert "retry-after" in page.headers
    plain = await ask(gateway.port, "/assets/app.js")
    assert (plain.status, plain.headers["content-type"]) == (503, "text/plain; charset=utf-8")
    ready = await ask(gateway.port, "/readyz")
    assert ready.status == 200
    assert ready.json["failing"] == []
    seen = ready.json["dependencies"]["upstream"]
    assert seen["ok"] is False
    assert seen["reason"].startswith("connection refused, for ")
    await SimulatedDevice(stack).request_pairing(gateway)  # pairing works without it
    env = {"OPENCLAW_GATEWAY_TOKEN": stack.gateway_token}
    found = await findings_of(gateway.ws_url, env=env)
    received = [
        (item.step, item.state) for item in found if item.cause is upstream_causes.UNREACHABLE
    ]
    assert received == [("http", State.WARNING), ("token", State.WRONG)]
    with stub_upstream(port):
        await asyncio.to_thread(
            wait_until, lambda: _is_up(gateway), "the gateway finds it", seconds=20
        )
        assert (await ask(gateway.port, "/chat")).status == 200


@pytest.mark.parametrize("trusted", [True, False])
async def test_an_upstream_with_an_untrusted_certificate_is_unreachable(
    start_stack: StartStack, *, trusted: bool
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    with stub_upstream(tls=context) as upstream:
        stack = start_stack(
            gateways=1,
            gateway_env={
                "UPSTREAM_URL": f"wss://localhost:{upstream.port}",
                "UPSTREAM_SECRET": SECRET,
                **({"SSL_CERT_FILE": str(TLS / "certificate.pem")} if trusted else {}),
            },
        )
        gateway = stack.gateways[0]
        page = await ask(gateway.port, "/chat")
        seen = (await ask(gateway.port, "/readyz")).json["dependencies"]["upstream"]
        assert page.status == (200 if trusted else 503)
        assert seen["ok"] is trusted
        assert trusted or seen["reason"].startswith("its certificate is not trusted: ")
        assert bool(upstream.received) is trusted
        gateway.terminate()  # before the stub, which would leave a handshake half done
        await gateway.until_ended()


def _is_up(gateway: ServiceProcess) -> bool:
    ready = asyncio.run(ask(gateway.port, "/readyz"))
    return bool(ready.json["dependencies"]["upstream"]["ok"])
