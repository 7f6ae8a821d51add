"""The dashboard and the operators' page under a path prefix that the proxy strips or keeps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest

from services.approval.access.csrf import PAGE_HEADER
from tests.support.http.mounts import Mount, mounted
from tools.support.actors import SimulatedDevice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

INDEX = b"""<!doctype html>
<html><head><script>first()</script><link rel="stylesheet" href="./assets/app-BBBBBBBB.css">
<script type="module" src="./assets/app-AAAAAAAA.js"></script></head><body></body></html>
"""
PREFIX = "/tools/openclaw"
APPROVE = "/tools/approve"


class Site(NamedTuple):
    """The two services as a browser sees them."""

    dashboard: str
    approval: str
    gateway_port: int


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small dashboard."""
    ui = tmp_path_factory.mktemp("ui")
    (ui / "assets").mkdir()
    (ui / "index.html").write_bytes(INDEX)
    (ui / "assets" / "app-AAAAAAAA.js").write_bytes(b'import "./more-CCCCCCCC.js"')
    (ui / "assets" / "more-CCCCCCCC.js").write_bytes(b"more")
    (ui / "assets" / "app-BBBBBBBB.css").write_bytes(b"p{}")
    return ui


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, ui: Path) -> Stack:
    """Start a gateway and an approval without a prefix, and one of each with it."""
    stack = start_stack(approvals=0, gateways=0, gateway_env={"CONTROL_UI_DIR": str(ui)})
    stack.add_approval()
    stack.add_approval(APPROVAL_PUBLIC_URL=f"http://people.example{APPROVE}")
    stack.add_gateway(APPROVAL_PUBLIC_URL=f"http://people.example{APPROVE}")
    stack.add_gateway(GATEWAY_PUBLIC_URL=f"http://people.example{PREFIX}")
    return stack


@pytest.fixture
async def sites(stack: Stack) -> AsyncIterator[dict[str, Site]]:
    """Return every way of handling the prefix."""
    (plain, knowing), (plain_approval, knowing_approval) = stack.gateways, stack.approvals
    async with (
        mounted(Mount(PREFIX, plain.url), Mount(APPROVE, plain_approval.url)) as taken,
        mounted(
            Mount(PREFIX, knowing.url, strips=False),
            Mount(APPROVE, knowing_approval.url, strips=False),
        ) as left,
        mounted(Mount(PREFIX, plain.url, strips=False)) as unknown,
        mounted(Mount(PREFIX, knowing.url), Mount(APPROVE, knowing_approval.url)) as both,
    ):
        yield {
            "taken away": Site(taken + PREFIX, taken + APPROVE, plain.port),
            "left and configured": Site(left + PREFIX, left + APPROVE, knowing.port),
            "left and not configured": Site(unknown + PREFIX, "", plain.port),
            "taken away and configured": Site(both + PREFIX, both + APPROVE, knowing.port),
        }


HOWS = ["taken away", "left and configured", "left and not configured", "taken away and configured"]
WITH_APPROVAL = [how for how in HOWS if how != "left and not configured"]


async def get(url: str) -> tuple[int, str, dict[str, str]]:
    async with aiohttp.ClientSession() as http, http.get(url, allow_redirects=False) as answer:
        return answer.status, await answer.text(), dict(answer.headers)


@pytest.mark.parametrize("mode", HOWS)
@pytest.mark.parametrize("path", ["/", "/chat", "/settings/devices", "/chat/main/"])
async def test_the_dashboards_page_finds_its_files_from_every_path(
    sites: dict[str, Site], mode: str, path: str
) -> None:
    page = sites[mode].dashboard + path
    status, html, headers = await get(page)
    assert status == 200
    assert "sha256-" in headers["Content-Security-Policy"]
    for reference in re.findall(r'(?:href|src)="([^"]+)"', html):
        status, text, _ = await get(urljoin(page, reference))
        assert status == 200, reference
        for further in re.findall(r'import "([^"]+)"', text):
            assert (await get(urljoin(urljoin(page, reference), further)))[:2] == (200, "more")


@pytest.mark.parametrize(
    ("mode", "path", "depth"),
    [
        ("taken away", "/", 0),
        ("taken away", "/settings/devices", 2),
        ("left and configured", "/", 0),
        ("left and configured", "/settings/devices", 2),
        ("taken away and configured", "/chat", 1),
    ],
)
async def test_the_page_learns_its_depth_below_the_prefix(
    sites: dict[str, Site], mode: str, path: str, depth: int
) -> None:
    _, html, _ = await get(sites[mode].dashboard + path)
    assert f'<script data-depth="{depth}">' in html


async def test_a_configured_prefix_without_its_slash_leads_to_the_one_with(
    sites: dict[str, Site],
) -> None:
    port = sites["left and configured"].gateway_port
    status, _, headers = await get(f"http://127.0.0.1:{port}{PREFIX}?token=secret")
    assert (status, headers["Location"]) == (308, f"{PREFIX}/")


@pytest.mark.parametrize("mode", WITH_APPROVAL)
async def test_the_gateways_own_pages_are_below_the_prefix_too(
    sites: dict[str, Site], mode: str
) -> None:
    for path in ("/readyz", "/livez", "/control-ui-config.json"):
        assert (await get(sites[mode].dashboard + path))[0] in {200, 401}
    status, _, headers = await get(sites["taken away"].dashboard + "/setup")
    assert (status, headers["Location"]) == (302, f"http://people.example{APPROVE}/setup")


@pytest.mark.parametrize("mode", WITH_APPROVAL)
async def test_the_operators_page_works_below_a_prefix(
    stack: Stack, sites: dict[str, Site], mode: str
) -> None:
    base = sites[mode].approval
    page = f"{base}/setup"
    status, html, _ = await get(page)
    assert status == 200
    for reference in re.findall(r'(?:href|src)="([^"#]+)"', html):
        assert (await get(urljoin(page, reference)))[0] == 200, reference

    parts = urlsplit(base)
    own = {"Origin": f"{parts.scheme}://{parts.netloc}", PAGE_HEADER: "1"}
    device = SimulatedDevice(stack)
    request_id = await device.request_pairing(stack.gateways[0])
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, headers=own) as http:
        bearer = {"Authorization": f"Bearer {stack.admin_token}"}
        async with http.post(f"{base}/v1/session", headers=bearer) as answer:
            assert answer.status == 200
        (cookie,) = jar
        assert cookie["path"] == f"{APPROVE}/v1"
        async with http.post(f"{base}/v1/requests/{request_id}/approve") as answer:
            assert answer.status == 200
        async with http.delete(f"{base}/v1/session") as answer:
            assert await answer.json() == {"ended": True}
        assert len(jar) == 0
    await device.connect_once(stack.gateways[0])


async def test_below_a_prefix_every_call_wants_an_operator_as_well(sites: dict[str, Site]) -> None:
    base = sites["left and configured"].approval
    for path in ("/v1/requests", "/v1/devices", "/v1/audit", "/v1/backup", "/v1/events"):
        assert (await get(base + path))[0] == 401
