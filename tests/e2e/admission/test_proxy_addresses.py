"""Behind a trusted proxy each client is counted separately, whatever format the proxy uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest

from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3
from tests.support.http.plain_http import ask
from tests.support.websocket.raw_socket import RawSocket
from tools.support.actors import wait_for_log
from tools.support.metrics import metric

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

PEER = "127.0.0.1"
"""The address of these tests, which act as the trusted proxy."""
WRONG_TOKENS = 12
LOCKED_OUT = "AUTH_RATE_LIMITED"
MISMATCH = "AUTH_TOKEN_MISMATCH"


class Form(NamedTuple):
    """How a proxy writes the address of client `n`, which uses another port each time."""

    header: str
    value: str
    address: str

    def sent(self, client: int, port: int = 1) -> tuple[str, str]:
        """Return the header for a client that no other form uses."""
        return self.header, self.value.format(n=self.number(client), port=port)

    def named(self, client: int) -> str:
        """Return the address of a client."""
        return self.address.format(n=self.number(client))

    def number(self, client: int) -> int:
        """Return the number of one of the form's four clients."""
        return 10 + 4 * FORMS.index(self) + client


FORMS = [
    Form("X-Forwarded-For", "203.0.113.{n}:434{port}", "203.0.113.{n}"),
    Form("X-Forwarded-For", "1.2.3.4, [2001:db8:{n}::5]:44{port}, 127.0.0.1", "2001:db8:{n}::5"),
    Form("X-Forwarded-For", "2001:db8:{n}::6%eth0", "2001:db8:{n}::6"),
    Form("X-Real-IP", "198.51.100.{n}:5{port}", "198.51.100.{n}"),
    Form("X-Real-IP", "[2001:db8:{n}::7]", "2001:db8:{n}::7"),
    Form("Forwarded", 'for=1.2.3.4, for="203.0.113.1{n}:{port}";proto=https', "203.0.113.1{n}"),
    Form("Forwarded", 'for="[2001:db8:{n}::8]:_p{port}", for=127.0.0.1', "2001:db8:{n}::8"),
]


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway that trust a proxy on this machine, for the whole module."""
    return start_stack(approvals=1, gateways=1, env={"TRUSTED_PROXIES": PEER})


@pytest.fixture
def gateway(stack: Stack) -> ServiceProcess:
    (gateway,) = stack.gateways
    return gateway


@pytest.fixture
def approval(stack: Stack) -> ServiceProcess:
    (approval,) = stack.approvals
    return approval


async def refusal(
    gateway: ServiceProcess, header: tuple[str, str], token: str, profile: Profile
) -> Any:
    """Connect through the proxy with this token and an unknown device; return the error."""
    async with await RawSocket.open(gateway.port, headers=[header]) as raw:
        credentials = Credentials(token=token)
        answer = await raw.connect(DeviceKey.generate(), profile, credentials)
        assert not answer["ok"], answer
        return answer["error"]


async def address_of(gateway: ServiceProcess, error: Any) -> str:
    """Return the address in the gateway's log of a refused connection."""
    connection = error["details"]["connectionId"]
    (line,) = await wait_for_log(gateway, "connection", connection=connection)
    return str(line["address"])


async def proxies(service: ServiceProcess) -> list[str]:
    """Return the warnings of `/readyz` about proxies."""
    body = (await ask(service.port, "/readyz")).json
    return list(body["dependencies"]["proxies"].get("warnings", []))


class TestGateway:
    @pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["protocol 4", "protocol 3"])
    @pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.header}: {form.value}")
    async def test_a_client_that_guesses_locks_out_itself_alone(
        self, stack: Stack, gateway: ServiceProcess, profile: Profile, form: Form
    ) -> None:
        guesser, other = (0, 1) if profile is CLI else (2, 3)
        errors = [
            await refusal(gateway, form.sent(guesser, port), f"wrong {port}", profile)
            for port in range(WRONG_TOKENS)
        ]
        assert errors[0]["details"]["code"] == MISMATCH
        assert errors[-1]["details"]["code"] == LOCKED_OUT
        assert await address_of(gateway, errors[-1]) == form.named(guesser)

        wrong = await refusal(gateway, form.sent(other), "wrong", profile)
        assert wrong["details"]["code"] == MISMATCH
        assert await address_of(gateway, wrong) == form.named(other)
        right = await refusal(gateway, form.sent(other, 2), stack.gateway_token, profile)
        assert right["details"]["code"] == "PAIRING_REQUIRED"
        assert await proxies(gateway) == []

    async def test_an_unreadable_address_is_the_proxys_and_is_reported(
        self, stack: Stack, gateway: ServiceProcess
    ) -> None:
        for value in ("unknown", "203.0.113.6, _hidden"):
            header = ("X-Forwarded-For", value)
            error = await refusal(gateway, header, stack.gateway_token, CLI)
            assert await address_of(gateway, error) == PEER
        (line,) = await wait_for_log(gateway, "proxy.unreadable")
        assert (line["peer"], line["header"], line["value"]) == (PEER, "X-Forwarded-For", "unknown")
        (warning,) = await proxies(gateway)
        assert warning.startswith(f"{PEER} sends no valid client address in X-Forwarded-For")
        counted = metric(
            (await ask(gateway.port, "/metrics")).body.decode(),
            "latchkey_gateway_unreadable_proxies_total",
        )
        assert counted is not None
        assert counted >= 2

        error = await refusal(gateway, FORMS[0].sent(0), stack.gateway_token, CLI)
        assert await address_of(gateway, error) == FORMS[0].named(0)
        assert await proxies(gateway) == []


class TestApproval:
    @pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.header}: {form.value}")
    async def test_an_operator_that_guesses_locks_out_itself_alone(
        self, stack: Stack, approval: ServiceProcess, form: Form
    ) -> None:
        async def status(client: int, token: str, port: int = 1) -> int:
            name, value = form.sent(client, port)
            headers = {name: value, "Authorization": f"Bearer {token}"}
            return (await ask(approval.port, "/v1/requests", headers=headers)).status

        statuses = [await status(0, f"wrong {guess}", guess) for guess in range(WRONG_TOKENS)]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert await status(0, stack.admin_token) == 429
        assert await status(1, stack.admin_token) == 200
        assert await proxies(approval) == []

    async def test_an_unreadable_address_is_the_proxys_and_is_reported(
        self, stack: Stack, approval: ServiceProcess
    ) -> None:
        headers = {"Forwarded": "for=unknown", "Authorization": f"Bearer {stack.admin_token}"}
        for _ in range(2):
            assert (await ask(approval.port, "/v1/requests", headers=headers)).status == 200
        (line,) = await wait_for_log(approval, "proxy.unreadable")
        assert (line["peer"], line["header"]) == (PEER, "Forwarded")
        (warning,) = await proxies(approval)
        assert warning.startswith(f"{PEER} sends no valid client address in Forwarded")
        text = (await ask(approval.port, "/metrics")).body.decode()
        assert metric(text, "latchkey_approval_unreadable_proxies_total") == 2
        headers["Forwarded"] = 'for="203.0.113.6:1"'
        assert (await ask(approval.port, "/v1/requests", headers=headers)).status == 200
        assert await proxies(approval) == []

    @pytest.mark.parametrize(
        ("headers", "secure"),
        [
            ({"Forwarded": "for=203.0.113.6;proto=https"}, True),
            ({"Forwarded": "for=203.0.113.6;proto=http"}, False),
            ({"Forwarded": "for=1.2.3.4;proto=https, for=203.0.113.6;proto=http"}, False),
            ({"Forwarded": "for=1.2.3.4;proto=https", "X-Forwarded-For": "203.0.113.6"}, False),
            ({"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.6:1"}, True),
        ],
    )
    async def test_a_session_over_https_has_a_secure_cookie(
        self,
        stack: Stack,
        approval: ServiceProcess,
        headers: dict[str, str],
        secure: bool,  # noqa: FBT001 (a column of the table)
    ) -> None:
        bearer = {"Authorization": f"Bearer {stack.admin_token}"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{approval.url}/v1/session", headers={**headers, **bearer}) as answer,
        ):
            assert answer.status == 200, await answer.text()
            assert ("Secure" in answer.headers["Set-Cookie"]) is secure

    async def test_a_proxy_that_is_not_trusted_is_named(self, stack: Stack) -> None:
        approval = stack.add_approval(TRUSTED_PROXIES="10.0.0.0/8")
        headers = {
            "X-Forwarded-For": "203.0.113.6",
            "Authorization": f"Bearer {stack.admin_token}",
        }
        assert (await ask(approval.port, "/v1/requests", headers=headers)).status == 200
        (line,) = await wait_for_log(approval, "proxy.untrusted")
        assert line["peer"] == PEER
        (warning,) = await proxies(approval)
        assert "TRUSTED_PROXIES" in warning
        approval.kill9()
