"""`python -m shared.device`: its output, its state and its exit codes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.device import report
from shared.device.__main__ import RETRIES
from shared.device.errors import BrokenPeerError, NoAnswerError, UnreachableError
from shared.device.handshake import Close, Refused
from shared.device.state import load
from tests.support.stubs.gateway import Socket, stub_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.device.errors import DeviceClientError

ROOT = Path(__file__).parents[3]
TOKEN = "gateway-token-of-32-characters-00"


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "device.json"


async def start(
    *arguments: str, state: Path, environ: dict[str, str] | None = None
) -> asyncio.subprocess.Process:
    secrets = state.with_name("secrets.env")
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "shared.device", "--state", str(state), "--secrets", str(secrets), *arguments),
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", ""), **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(*arguments: str, state: Path, environ: dict[str, str] | None = None) -> Ended:
    process = await start(*arguments, state=state, environ=environ)
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


class TestStarting:
    """The gateway has admitted the device and is still connecting it to OpenClaw."""

    async def script(self, socket: Socket) -> None:
        self.connects += 1
        if self.connects > self.refusals:
            await socket.admit()
            await socket.hear_anything()
            return
        await socket.challenge()
        details = {"code": "UNAVAILABLE", "reason": "startup-sidecars"}
        error = {"code": "UNAVAILABLE", "message": "m", "retryAfterMs": 10, "details": details}
        await socket.fail(await socket.hear(), error)
        await socket.close(1013, "gateway starting")

    @pytest.mark.parametrize(("refusals", "code", "connects"), [(2, 0, 3), (99, 1, RETRIES + 1)])
    async def test_it_tries_again_by_itself_a_few_times(
        self, state: Path, refusals: int, code: int, connects: int
    ) -> None:
        self.connects, self.refusals = 0, refusals
        async with stub_gateway(self.script) as url:
            ended = await run(url, state=state, environ={"OPENCLAW_GATEWAY_TOKEN": TOKEN})
        assert (ended.code, self.connects) == (code, connects)
        assert ("latchkey upstream check" in ended.out) is (code == 1)


class TestAdmitted:
    async def script(self, socket: Socket) -> None:
        self.seen.append((await socket.admit(deviceToken="issued-token"), socket.headers))
        await socket.hear_anything()

    @pytest.fixture
    async def url(self) -> AsyncIterator[str]:
        self.seen: list[Any] = []
        async with stub_gateway(self.script) as url:
            yield url

    async def test_says_which_replica_role_and_scopes(self, url: str, state: Path) -> None:
        ended = await run(url, state=state, environ={"OPENCLAW_GATEWAY_TOKEN": TOKEN})
        assert ended == Ended(0, ended.out, "")
        assert ended.out.startswith("Admitted by replica boot\n")
        for row in ("role        operator", "scopes      operator.read", "connection  boot:7"):
            assert row in ended.out
        assert "method      the gateway token" in ended.out
        device_id = load(state).key.device_id
        assert device_id in ended.out
        assert "fingerprint " + " ".join(re.findall("....", device_id[:16])) in ended.out
        assert TOKEN not in ended.out
        assert "issued-token" not in ended.out

    async def test_the_token_comes_from_the_environment_first(self, url: str, state: Path) -> None:
        state.with_name("secrets.env").write_text(f"OPENCLAW_GATEWAY_TOKEN={TOKEN},older\n")
        await run(url, state=state, environ={"OPENCLAW_GATEWAY_TOKEN": "from-env, other"})
        await run(url, state=state)
        await run(url, "--token-env", "MINE", state=state, environ={"MINE": "mine"})
        offered = [frame["params"]["auth"] for frame, _ in self.seen]
        assert offered == [{"token": "from-env"}, {"token": TOKEN}, {"token": "mine"}]

    async def test_without_it_the_stored_device_token_comes_along(
        self, url: str, state: Path
    ) -> None:
        await run(url, state=state, environ={"OPENCLAW_GATEWAY_TOKEN": TOKEN})
        await run(url, state=state)
        await run(url, "--device-token", state=state, environ={"OPENCLAW_GATEWAY_TOKEN": TOKEN})
        offered = [frame["params"]["auth"] for frame, _ in self.seen]
        assert offered == [
            {"token": TOKEN},
            {"deviceToken": "issued-token"},
            {"deviceToken": "issued-token"},
        ]

    async def test_another_client_other_scopes_another_name(self, url: str, state: Path) -> None:
        await run(
            *(url, "--profile", "reference", "--protocol", "3", "--name", "Kitchen"),
            *("--scope", "operator.admin", "--scope", "operator.read"),
            state=state,
        )
        params = self.seen[0][0]["params"]
        assert params["client"]["id"] == "gateway-client"
        assert params["client"]["displayName"] == "Kitchen"
        assert params["scopes"] == ["operator.admin", "operator.read"]
        assert (params["minProtocol"], params["maxProtocol"]) == (3, 3)

    async def test_a_dashboard_comes_with_the_origin_it_was_served_from(
        self, url: str, state: Path
    ) -> None:
        await run(url, "--profile", "control-ui", state=state)
        await run(url, "--profile", "control-ui", "--origin", "https://o.example", state=state)
        await run(url, state=state)
        origins = [headers.get("Origin") for _, headers in self.seen]
        assert origins == [url.replace("ws:", "http:"), "https://o.example", None]


class TestRefused:
    async def test_says_why_and_what_to_do(self, state: Path) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            error = {
                "code": "NOT_PAIRED",
                "message": "pairing required: device is not approved yet",
                "details": {
                    "code": "PAIRING_REQUIRED",
                    "reason": "not-paired",
                    "requestId": "r-1",
                    "connectionId": "boot:9",
                },
            }
            await socket.fail(await socket.hear(), error)
            await socket.close(1008, "pairing required: \x1b[31mred")

        async with stub_gateway(script) as url:
            ended = await run(url, state=state)
        assert ended.code == 1
        assert ended.out.startswith("Refused: pairing required: device is not approved yet\n")
        for row in (
            "code        NOT_PAIRED / PAIRING_REQUIRED",
            "request id  r-1",
            "connection  boot:9",
            "closed      1008 pairing required: \\u001b[31mred",
            "What to do: Approve request r-1",
            "\n  APPROVAL_URL=... bin/latchkey devices approve --secrets ",
            "secrets.env r-1\n",
        ):
            assert row in ended.out

    async def test_a_device_token_that_ended_is_forgotten(self, state: Path) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            error = {
                "code": "INVALID_REQUEST",
                "message": "unauthorized: device token mismatch (rotate/reissue device token)",
                "details": {"code": "AUTH_DEVICE_TOKEN_MISMATCH"},
            }
            await socket.fail(await socket.hear(), error)
            await socket.close(1008)

        async with stub_gateway(script) as url:
            stored = load(state)
            stored.keep_token(url, "operator", "old")
            stored.save(state)
            ended = await run(url, state=state)
            assert load(state).token(url, "operator") is None
        assert ended.code == 1
        assert "offered  the stored device token" in ended.out


class TestUnreachable:
    async def test_a_closed_port_is_reported_as_unreachable(
        self, state: Path, unused_tcp_port: int
    ) -> None:
        ended = await run(f"http://127.0.0.1:{unused_tcp_port}", state=state)
        assert ended.code == 2
        assert ended.out.startswith("Unreachable: the connection was refused\n")
        assert f"gateway  ws://127.0.0.1:{unused_tcp_port}" in ended.out
        assert "What to do: Is a gateway running there?" in ended.out

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (UnreachableError("ws://x", "the connection was refused"), "Is a gateway running"),
            (UnreachableError("ws://x", "HTTP 200 instead of a WebSocket", 200), "does not speak"),
            (
                UnreachableError("ws://x", "HTTP 503 instead of a WebSocket", 503),
                "Too many unauthenticated sockets",
            ),
            (NoAnswerError("challenge", 5), "there is no answer"),
            (BrokenPeerError("not a JSON object"), "does not speak"),
        ],
    )
    def test_each_way_has_its_advice(self, error: DeviceClientError, expected: str) -> None:
        text = report.unreachable(error, [("gateway", "ws://x")])
        assert text.startswith("Unreachable: ")
        assert expected in text.partition("What to do: ")[2]

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("127.0.0.1:18789", "127.0.0.1:18789 has no scheme: write ws://127.0.0.1:18789"),
            ("ftp://host", "ftp://host does not start with wss:// or ws://"),
            ("ws://", "ws:// names no host"),
            ("ws://host:99999", "the port must be a number"),
            ("ws://[::1", "must be in brackets"),
        ],
    )
    async def test_an_invalid_address_is_reported(
        self, url: str, expected: str, state: Path
    ) -> None:
        ended = await run(url, state=state)
        assert ended.code == 2
        assert expected in ended.err
        assert "Traceback" not in ended.err

    @pytest.fixture
    def spoiled(self, state: Path) -> None:
        state.write_text("{}")

    @pytest.mark.usefixtures("spoiled")
    async def test_a_state_file_that_is_none(self, state: Path) -> None:
        ended = await run("ws://127.0.0.1:1", state=state)
        assert ended == Ended(
            2, "", f"{state} holds no device; move it away to start as a new one\n"
        )


class TestHold:
    async def test_a_held_connection_reports_how_it_ended(self, state: Path) -> None:
        async def script(socket: Socket) -> None:
            await socket.admit()
            await socket.close(4001, "device removed")

        async with stub_gateway(script) as url:
            ended = await run(url, "--hold", state=state)
        assert ended.code == 0
        assert "Holding the connection; Ctrl-C ends it.\n" in ended.out
        assert " s: 4001 device removed\n" in ended.out
        assert "What to do: This device was removed" in ended.out

    async def test_ctrl_c_ends_it_well(self, state: Path) -> None:
        closes: list[Any] = []

        async def script(socket: Socket) -> None:
            await socket.admit()
            closes.append((await socket.hear_anything()).data)

        async with stub_gateway(script) as url:
            process = await start(url, "--hold", state=state)
            assert process.stdout is not None
            while b"Holding" not in await process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")
        assert b"Closed by Ctrl-C after " in out
        assert closes == [1000]


class TestAdvice:
    """Each kind of refusal has advice."""

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ({"code": "INVALID_REQUEST", "details": {"code": "AUTH_TOKEN_MISSING"}}, "--token-env"),
            ({"code": "INVALID_REQUEST", "details": {"code": "AUTH_TOKEN_MISMATCH"}}, "make run"),
            ({"code": "INVALID_REQUEST", "details": {"code": "AUTH_SCOPE_MISMATCH"}}, "--scope"),
            (
                {
                    "code": "INVALID_REQUEST",
                    "retryAfterMs": 299_995,
                    "details": {"code": "AUTH_RATE_LIMITED"},
                },
                "Wait 300 s",
            ),
            (
                {"code": "INVALID_REQUEST", "details": {"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED"}},
                "GATEWAY_ALLOWED_ORIGINS",
            ),
            (
                {"code": "INVALID_REQUEST", "details": {"code": "DEVICE_AUTH_SIGNATURE_INVALID"}},
                "proof is invalid",
            ),
            (
                {"code": "INVALID_REQUEST", "details": {"code": "DEVICE_AUTH_SIGNATURE_EXPIRED"}},
                "two minutes",
            ),
            ({"code": "INVALID_REQUEST", "details": {"code": "PROTOCOL_MISMATCH"}}, "--protocol 4"),
            (
                {
                    "code": "UNAVAILABLE",
                    "retryAfterMs": 2_000,
                    "details": {"code": "UNAVAILABLE", "dependency": "approval"},
                },
                "the gateway lacks approval. Try again in 2 s",
            ),
        ],
    )
    def test_a_refusal_brings_advice(self, error: dict[str, Any], expected: str) -> None:
        assert expected in report.advice(Refused(error, Close(1008)))

    @pytest.mark.parametrize("code", [1000, 1006, 1008, 1009, 1012, 1013, 4001])
    def test_a_close_without_an_error_brings_advice(self, code: int) -> None:
        assert report.advice(Refused(None, Close(code)))
        assert f"{code} why" in report.ended(Close(code, "why"), 1.0)

    def test_an_outage_never_speaks_of_pairing(self) -> None:
        error = {"code": "UNAVAILABLE", "details": {"code": "UNAVAILABLE"}}
        assert "needs no approval" in report.advice(Refused(error, Close(1013)))
        assert "Approve request" not in report.advice(Refused(error, Close(1013)))
