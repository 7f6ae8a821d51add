"""OpenClaw's dashboard and the operators' page behind an nginx path prefix."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import expect

from deploy.local.dashboard_package import Package
from deploy.local.ports import Reservation
from tests.browser.screens import SEE_MS, screen
from tools.support.actors import Operator
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

NGINX: Final = """
daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2;
  fastcgi_temp_path {directory}/t3; uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  server {{
    listen 127.0.0.1:{port};
    location /openclaw/ {{ proxy_pass {plain}/; }}
    location /kept/openclaw/ {{ proxy_pass {knowing}; }}
    location /unknown/ {{ proxy_pass {plain}; }}
    location /approve/ {{ proxy_pass {approval}/; }}
  }}
}}
"""
PREFIXES: Final = {
    "taken away": "/openclaw/",
    "left and configured": "/kept/openclaw/",
    "left and not configured": "/unknown/",
}


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Start two gateways that serve the dashboard; the second knows its prefix."""
    assert Package().is_fetched, "run: make dashboard"
    stack = start_stack(
        approvals=1, gateways=0, gateway_env={"CONTROL_UI_DIR": str(Package().control_ui)}
    )
    known = {"APPROVAL_PUBLIC_URL": "https://people.example/approve"}
    stack.add_gateway(**known, GATEWAY_ALLOWED_ORIGINS="*")
    stack.add_gateway(
        **known,
        GATEWAY_PUBLIC_URL="https://people.example/kept/openclaw",
        GATEWAY_ALLOWED_ORIGINS="*",
    )
    return stack


@pytest.fixture(scope="module")
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve everything through nginx; returns its address."""
    if shutil.which("nginx") is None:
        pytest.fail("this story needs nginx: apt install nginx")
    directory = tmp_path_factory.mktemp("nginx")
    plain, knowing = stack.gateways
    with (
        Reservation() as port,
        nginx(
            directory,
            NGINX.format(
                directory=directory,
                port=port.port,
                plain=plain.url,
                knowing=knowing.url,
                approval=stack.approvals[0].url,
            ),
        ),
    ):
        yield f"http://127.0.0.1:{port.port}"


@contextmanager
def nginx(directory: Path, configuration: str) -> Iterator[None]:
    """Run nginx with a configuration."""
    file = directory / "nginx.conf"
    file.write_text(configuration)
    program = shutil.which("nginx") or "nginx"
    with subprocess.Popen([program, "-p", str(directory), "-c", str(file)]) as process:
        try:
            wait_until((directory / "nginx.pid").exists, "nginx runs")
            yield
        finally:
            process.terminate()


class Visit:
    """One page load of the dashboard. `missing` lists requests that failed with 404."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.missing: list[str] = []
        page.on(
            "response",
            lambda answer: self.missing.append(answer.url) if answer.status == 404 else None,
        )


@pytest.fixture
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """Open a page with its own profile."""
    profile = await browser.new_context(viewport={"width": 1120, "height": 900})
    yield Visit(await profile.new_page())
    await profile.close()


@pytest.mark.parametrize("mode", PREFIXES)
async def test_a_browser_is_refused_with_a_link_and_connects_by_itself_once_approved(
    stack: Stack, site: str, visit: Visit, mode: str
) -> None:
    page = visit.page
    await page.goto(f"{site}{PREFIXES[mode]}#token={stack.gateway_token}")
    notice = page.locator("#latchkey-approval")
    await expect(notice).to_contain_text("https://people.example/approve/setup", timeout=SEE_MS)
    await expect(page.get_by_text("Approve this browser")).to_be_visible(timeout=SEE_MS)
    text = await notice.inner_text()
    request_id = re.search(r"Request (\S+)", text)
    assert request_id is not None
    async with Operator(stack, stack.approvals[0]) as operator:
        await operator.approve(request_id[1])
    await expect(notice).to_have_count(0, timeout=SEE_MS)
    await expect(page.get_by_text("Approve this browser")).to_have_count(0, timeout=SEE_MS)
    assert page.url.startswith(f"{site}{PREFIXES[mode]}")
    # Reloading a nested page works below the prefix as well.
    await page.goto(f"{site}{PREFIXES[mode]}settings/devices")
    await expect(page.get_by_text("Devices").first).to_be_visible(timeout=SEE_MS)
    await asyncio.sleep(1)
    own = [url for url in visit.missing if "/assets/" in url or url.endswith((".js", ".css"))]
    assert own == []


async def test_a_path_without_its_slash_leads_to_the_dashboard(
    stack: Stack, site: str, visit: Visit
) -> None:
    await visit.page.goto(f"{site}/openclaw#token={stack.gateway_token}")
    await expect(visit.page.locator("#latchkey-approval")).to_be_visible(timeout=SEE_MS)


async def test_an_operator_signs_in_below_a_path_and_sees_pending_requests(
    browser: Browser, stack: Stack, site: str
) -> None:
    async with screen(browser, stack) as view:
        await view.page.goto(f"{site}/approve/setup")
        await view.sign_in()
        await view.is_live()
        cookies = await view.page.context.cookies(f"{site}/approve/v1/session")
        assert [cookie["path"] for cookie in cookies] == ["/approve/v1"]
        await view.page.reload()
        await view.is_live()
