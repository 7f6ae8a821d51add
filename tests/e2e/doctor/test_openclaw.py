"""The doctor against plain OpenClaw gateways, replayed from recordings of real ones.

`make interop` runs the same checks against real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.cli.doctor import causes, openclaw_causes
from services.cli.doctor.journey import NAME
from shared.device.identity import DeviceKey
from shared.device.state import DeviceState
from tests.support.stubs.openclaw import RELEASES, TOKEN, Replica, openclaw
from tools.support.proxies.websocket import Faults, proxy
from tools.support.walking import findings_of, stopped_by, warned_of

if TYPE_CHECKING:
    from services.cli.doctor.cause import Cause

ENV = {"OPENCLAW_GATEWAY_TOKEN": TOKEN}
CURRENT = "2026.9.6"
OLD = "2026.3.28"
CONNECTIONS = 8
COLUMNS = 80
ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.parametrize("release", RELEASES)


def asked_to_be_paired(replica: Replica) -> list[dict[str, Any]]:
    """Return the connects that create a request: a device together with a secret."""
    return [params for params in replica.connects if "device" in params and "auth" in params]


class TestOneGateway:
    async def test_openclaw_is_recognised_and_nothing_is_wrong(self, release: str) -> None:
        async with openclaw(Replica(release)) as url:
            findings = await findings_of(url, env=ENV)
        assert all(finding.cause is None for finding in findings)
        http = next(finding.found for finding in findings if finding.step == "http")
        assert "this is OpenClaw" in http
        replicas = next(finding.found for finding in findings if finding.step == "replicas")
        assert f"all {CONNECTIONS} connections were answered by 1 OpenClaw process" in replicas
        state = next(finding.found for finding in findings if finding.step == "state")
        assert "in /data/token/state." in state

    async def test_openclaw_is_recognised_by_its_frames_if_its_pages_are_hidden(
        self, release: str
    ) -> None:
        replicas = [
            Replica(release, hides_pages=True),
            Replica(release, hides_pages=True, uptime_ms=3_600_000),
        ]
        async with openclaw(*replicas) as url:
            await stopped_by(url, openclaw_causes.SEPARATE_LISTS, env=ENV)
        assert not any(asked_to_be_paired(replica) for replica in replicas)

    async def test_no_device_is_paired_with_openclaw(self, release: str) -> None:
        replica = Replica(release)
        async with openclaw(replica) as url:
            await findings_of(url, env=ENV)
        assert replica.connects
        assert not asked_to_be_paired(replica)
        assert not replica.requests
        assert not replica.paired

    async def test_the_pairing_probe_asks_for_no_scope_under_the_doctors_name(
        self, release: str
    ) -> None:
        replica = Replica(release)
        async with openclaw(replica) as url:
            findings = await findings_of(url, env=ENV, pairing_probe=True)
        asked = asked_to_be_paired(replica)
        assert len(asked) == CONNECTIONS
        assert {(request["role"], *request["scopes"]) for request in asked} == {("operator",)}
        assert {request["client"]["displayName"] for request in asked} == {NAME}
        assert len({request["device"]["id"] for request in asked}) == 1
        pairing = [finding.found for finding in findings if finding.step == "pairing"]
        assert "for up to 5 minutes" in pairing[0]
        assert pairing[-1].endswith("there is one device list")
        assert all(finding.cause is None for finding in findings)
        left = release == OLD  # such a release grants nothing to a client without a device
        assert bool(replica.requests) is left
        assert any("cannot be withdrawn" in item for item in pairing) is left


class TestReplicas:
    async def test_separate_device_lists_are_found_without_a_request(self, release: str) -> None:
        replicas = [Replica(release), Replica(release, uptime_ms=3_600_000)]
        async with openclaw(*replicas) as url:
            found = await stopped_by(url, openclaw_causes.SEPARATE_LISTS, env=ENV)
        assert "2 OpenClaw processes" in found.found
        assert not any(replica.requests for replica in replicas)

    async def test_separate_device_lists_are_found_by_different_requests(
        self, release: str
    ) -> None:
        replicas = [Replica(release), Replica(release, uptime_ms=3_600_000)]
        asked: set[str] = set()
        async with openclaw(*replicas) as url:
            found = await stopped_by(
                url, openclaw_causes.SEPARATE_LISTS, env=ENV, pairing_probe=True
            )
        asked = {request for replica in replicas for request in replica.requests.values()}
        assert "the same device got 2 request ids" in found.found
        assert all(request in found.found for request in asked)

    async def test_a_replica_with_another_token_is_found(self, release: str) -> None:
        replicas = [Replica(release), Replica(release, token="other")]
        async with openclaw(*replicas) as url:
            found = await stopped_by(url, causes.REPLICAS_DISAGREE, env=ENV, connections=9)
        assert "openclaw-token-wrong" in found.found
        refused = sum("auth" in params for params in replicas[1].connects if "device" not in params)
        assert refused < CONNECTIONS


class TestRefusals:
    async def test_a_missing_token_is_found(self, release: str) -> None:
        replica = Replica(release)
        async with openclaw(replica) as url:
            found = await stopped_by(url, openclaw_causes.TOKEN_MISSING)
        assert "OPENCLAW_GATEWAY_TOKEN" in found.cure
        assert not any("device" in params for params in replica.connects)

    async def test_a_wrong_token_is_found(self, release: str) -> None:
        async with openclaw(Replica(release, token="other")) as url:
            found = await stopped_by(url, openclaw_causes.TOKEN_WRONG, env=ENV)
        assert TOKEN not in found.found + found.cure

    @pytest.mark.parametrize(
        ("expected", "cause"),
        [
            ("password-missing", openclaw_causes.PASSWORD_WANTED),
            ("password-wrong", openclaw_causes.PASSWORD_WANTED),
            ("locked-out", openclaw_causes.LOCKED_OUT),
            ("login-by-proxy", openclaw_causes.LOGIN_BY_PROXY),
            ("protocol-mismatch", causes.PROTOCOL_MISMATCH),
        ],
    )
    async def test_each_error_is_named(self, release: str, expected: str, cause: Cause) -> None:
        async with openclaw(Replica(release, always=expected)) as url:
            await stopped_by(url, cause, env=ENV)

    async def test_one_without_a_row_is_shown_verbatim(self, release: str) -> None:
        replica = Replica(release, always="token-wrong")
        body = replica.recorded["connects"]["token-wrong"]["error"]
        body["message"] = "client version mismatch"
        body["details"]["code"] = "CLIENT_VERSION_MISMATCH"
        async with openclaw(replica) as url:
            found = await stopped_by(url, openclaw_causes.REFUSED, env=ENV)
        assert "client version mismatch" in found.found

    async def test_a_page_from_another_origin_is_refused(self, release: str) -> None:
        there = "https://panel.example"
        async with openclaw(Replica(release)) as url:
            found = await stopped_by(url, openclaw_causes.ORIGIN_REFUSED, env=ENV, origin=there)
        assert f"""gateway.controlUi.allowedOrigins '["{there}"]'""" in found.cure

    async def test_a_refusal_of_its_own_page_is_a_warning(self, release: str) -> None:
        replica = Replica(release)
        body = replica.recorded["connects"]
        body["page"] = body["foreign-origin"]
        async with openclaw(replica) as url:
            await warned_of(url, openclaw_causes.ORIGIN_REFUSED, env=ENV)
            findings = await findings_of(url, env=ENV, pairing_probe=True)
        assert any("might pair the doctor silently" in finding.found for finding in findings)
        assert not replica.requests

    async def test_a_gateway_that_is_starting_is_found(self, release: str) -> None:
        async with openclaw(Replica(release, ready=False)) as url:
            await stopped_by(url, openclaw_causes.STARTING, env=ENV)
        current = Replica(release)
        current.recorded["connects"]["starting"] = Replica(CURRENT).recorded["connects"]["starting"]
        current.always = "starting"
        async with openclaw(current) as url:
            await stopped_by(url, openclaw_causes.STARTING, env=ENV)


class TestProxy:
    async def test_a_proxy_that_openclaw_does_not_trust_is_found(self, release: str) -> None:
        if release == OLD:
            pages = Replica(OLD).recorded["pages of an untrusted proxy"]
            assert {page["status"] for page in pages.values()} == {200}  # it has no such refusal
            return
        async with openclaw(Replica(release, untrusted=True)) as url:
            found = await stopped_by(url, openclaw_causes.PROXY_UNTRUSTED, env=ENV)
            assert "gateway.trustedProxies" in found.cure
            assert found.step == "http"
        async with openclaw(Replica(release, upgrades="untrusted")) as url:
            found = await stopped_by(url, openclaw_causes.PROXY_UNTRUSTED, env=ENV)
            assert found.step == "upgrade"

    async def test_a_proxy_that_drops_the_upgrade_is_found(self, release: str) -> None:
        async with openclaw(Replica(release)) as gateway:
            to = gateway.replace("ws", "http", 1)
            async with proxy(to, Faults(drops_upgrade=True)) as url:
                await stopped_by(url, causes.UPGRADE_DROPPED, env=ENV)

    async def test_a_proxy_with_too_many_sockets_is_found(self, release: str) -> None:
        async with openclaw(Replica(release, upgrades="too many sockets")) as url:
            found = await stopped_by(url, openclaw_causes.TOO_MANY_SOCKETS, env=ENV)
        assert "GATEWAY_PREAUTH" not in found.cure


class TestOwnDevice:
    """The user's own device: `--state`."""

    @pytest.fixture
    def state(self) -> DeviceState:
        return DeviceState(DeviceKey.generate())

    @pytest.fixture
    def file(self, state: DeviceState, tmp_path: Path) -> Path:
        state.save(tmp_path / "device.json")
        return tmp_path / "device.json"

    async def test_an_unapproved_device_is_found(self, release: str, file: Path) -> None:
        replica = Replica(release)
        async with openclaw(replica) as url:
            found = await stopped_by(
                url, openclaw_causes.PAIRING_REQUIRED, env=ENV, state_file=file
            )
        (request,) = replica.requests.values()
        assert f"openclaw devices approve {request}" in found.cure

    async def test_an_approved_device_is_found(
        self, release: str, state: DeviceState, file: Path
    ) -> None:
        replica = Replica(release, paired={state.key.device_id})
        async with openclaw(replica) as url:
            findings = await findings_of(url, env=ENV, state_file=file)
        assert all(finding.cause is None for finding in findings)
        assert findings[-1].found == "paired as operator"

    async def test_a_device_approved_at_one_of_two_is_found(
        self, release: str, state: DeviceState, file: Path
    ) -> None:
        paired = Replica(release, paired={state.key.device_id})
        async with openclaw(paired, Replica(release, uptime_ms=9_000_000)) as url:
            found = await stopped_by(url, openclaw_causes.SEPARATE_LISTS, env=ENV, state_file=file)
        assert "admitted by 4 connections and refused by 4" in found.found

    @pytest.mark.parametrize("env", [ENV, {}], ids=["token", "device token"])
    async def test_a_device_that_the_gateway_has_forgotten_is_found(
        self, release: str, state: DeviceState, file: Path, env: dict[str, str]
    ) -> None:
        async with openclaw(Replica(release)) as url:
            state.keep_token(url, "operator", "d" * 43)
            state.save(file)
            found = await stopped_by(
                url, openclaw_causes.DEVICE_FORGOTTEN, env=env, state_file=file
            )
        assert "volume" in found.cure

    async def test_a_device_that_asks_for_more_scopes_is_found(
        self, release: str, file: Path
    ) -> None:
        replica = Replica(release)
        body = replica.recorded["connects"]
        body["pairing-required"] = body["scope-upgrade"]
        async with openclaw(replica) as url:
            await stopped_by(url, openclaw_causes.UPGRADE_PENDING, env=ENV, state_file=file)


class TestCommand:
    async def doctor(self, url: str, *arguments: str) -> tuple[int, str]:
        """Run the command; returns its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", "doctor", url, *arguments),
            env=ENV | {"PATH": os.environ["PATH"]},
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def test_it_says_how_to_approve_there_and_what_latchkey_would_change(
        self, release: str
    ) -> None:
        async with openclaw(Replica(release)) as url:
            status, body = await self.doctor(url)
        assert status == 0
        end = body[body.index("\n\n") :]
        assert "  openclaw devices approve REQUEST-ID\n" in end
        assert "In current releases, `openclaw devices approve --latest` approves nothing" in end
        assert "With Latchkey, any number of gateways" in end
        assert max(map(len, end.splitlines())) <= COLUMNS
        assert "bin/latchkey" not in body

    async def test_json_says_what_answers(self, release: str) -> None:
        async with openclaw(Replica(release), Replica(release, uptime_ms=9_000_000)) as url:
            status, body = await self.doctor(url, "--json")
        report = json.loads(body)
        assert status == 1
        assert report["ok"] is False
        assert report["gateway"] == {"kind": "openclaw", "version": release}
        assert report["steps"][-1]["cause"] == "openclaw-separate-lists"
