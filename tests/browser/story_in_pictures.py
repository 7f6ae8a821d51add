"""Take the screenshots for docs/, and check that axe finds no accessibility problem."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.device.profile import CLI, CONTROL_UI, NODE_HOST
from tests.browser.screens import PHONE, Screen, screen
from tools.support.actors import Operator, SimulatedDevice

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from shared.device.profile import Profile
    from tools.support.processes.stack import Stack

DOCS: Final = Path(__file__).parents[2] / "docs"
AXE: Final = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
PICTURE_LIMIT_BYTES: Final = 200_000
TALL: Final = {"width": 1000, "height": 1250}
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "": {"viewport": TALL},
    "-phone": {"viewport": PHONE, "device_scale_factor": 2, "has_touch": True},
    "-dark": {"viewport": TALL, "color_scheme": "dark"},
}


def named(profile: Profile, name: str, *scopes: str) -> Profile:
    """Return a client with this name, and these scopes if given."""
    return replace(profile, display_name=name, scopes=scopes or profile.scopes)


async def furnish(stack: Stack) -> SimulatedDevice:
    """Pair two devices and leave two pending; returns the one that stays connected."""
    gateway = stack.gateways[0]
    stays = SimulatedDevice(stack, named(NODE_HOST, "Garage Pi"))
    away = SimulatedDevice(stack, named(CLI, "Office laptop", "operator.read", "operator.write"))
    async with Operator(stack, stack.approvals[0]) as operator:
        for stay in (stays, away):
            (await operator.approve(await stay.request_pairing(gateway))).ok()
    await away.connect_once(gateway)
    await SimulatedDevice(stack, named(CONTROL_UI, "Browser on the tablet")).request_pairing(
        gateway
    )
    await away.with_scopes("operator.read", "operator.write", "operator.pairing").request_pairing(
        gateway
    )
    return stays


async def check(view: Screen) -> None:
    """Run axe on the page as it is shown now."""
    found = await view.page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map("
        "v => [v.id, v.help, v.nodes.map(n => n.html + ' ' + n.failureSummary)]))"
    )
    assert found == []


async def no_wider_than_the_window(view: Screen) -> None:
    """Check that the page needs no horizontal scrolling."""
    assert await view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.timeout(180)
async def test_the_pages_match_their_pictures_in_the_docs(
    browser: Browser, stack: Stack, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    to = DOCS if pytestconfig.getoption("--pictures") else tmp_path
    client, _ = await (await furnish(stack)).stay_connected(stack.gateways[1])
    async with client:
        for name, look in LOOKS.items():
            async with screen(browser, stack, **look) as view:
                await view.page.add_init_script(path=AXE)
                await view.open()
                await view.page.get_by_label("Operator token").focus()
                await check(view)
                await view.sign_in()
                await view.is_live()
                await view.sees(view.page.locator("#devices"), "Online at")
                await view.sees(view.page.locator("#waiting"), "Browser on the tablet")
                await check(view)
                await no_wider_than_the_window(view)
                picture = to / f"manage-devices{name}.png"
                await view.picture(picture)
                assert picture.stat().st_size < PICTURE_LIMIT_BYTES
                await view.page.locator("#devices summary").first.click()
                await check(view)
                await no_wider_than_the_window(view)
                await (
                    view.page.locator("#devices").get_by_role("button", name="Remove").first.click()
                )
                await check(view)
                await view.page.keyboard.press("Escape")
