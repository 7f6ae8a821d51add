"""Take the screenshots for docs/, and check that axe finds no accessibility problem."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.device.profile import CLI, CONTROL_UI, NODE_HOST
from tests.browser.screens import PHONE, Screen, screen
from tools.support.people import Operator, Visitor

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from shared.device.profile import Profile
    from tools.support.stack import Stack

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


async def furnish(stack: Stack) -> Visitor:
    """Pair two devices and leave two pending; returns the one that stays connected."""
    gateway = stack.gateways[0]
    stays = Visitor(stack, named(NODE_HOST, "Garage Pi"))
    away = Visitor(stack, named(CLI, "Office laptop", "operator.read", "operator.write"))
    async with Operator(stack, stack.approvals[0]) as operator:
        for one in (stays, away):
            (await operator.approve(await one.waits(gateway))).ok()
    await away.visits(gateway)
    await Visitor(stack, named(CONTROL_UI, "Browser on the tablet")).waits(gateway)
    await away.asking("operator.read", "operator.write", "operator.pairing").waits(gateway)
    return stays


async def check(one: Screen) -> None:
    """Run axe on the page as it is shown now."""
    found = await one.page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map("
        "v => [v.id, v.help, v.nodes.map(n => n.html + ' ' + n.failureSummary)]))"
    )
    assert found == []


async def no_wider_than_the_window(one: Screen) -> None:
    """Check that the page needs no horizontal scrolling."""
    assert await one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.timeout(180)
async def test_looks(
    browser: Browser, stack: Stack, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    to = DOCS if pytestconfig.getoption("--pictures") else tmp_path
    client, _ = await (await furnish(stack)).stays(stack.gateways[1])
    async with client:
        for name, look in LOOKS.items():
            async with screen(browser, stack, **look) as one:
                await one.page.add_init_script(path=AXE)
                await one.open()
                await one.page.get_by_label("Admin token").focus()
                await check(one)
                await one.sign_in()
                await one.is_live()
                await one.sees(one.page.locator("#devices"), "Online at")
                await one.sees(one.page.locator("#waiting"), "Browser on the tablet")
                await check(one)
                await no_wider_than_the_window(one)
                picture = to / f"manage-devices{name}.png"
                await one.picture(picture)
                assert picture.stat().st_size < PICTURE_LIMIT_BYTES
                await one.page.locator("#devices summary").first.click()
                await check(one)
                await no_wider_than_the_window(one)
                await (
                    one.page.locator("#devices").get_by_role("button", name="Remove").first.click()
                )
                await check(one)
                await one.page.keyboard.press("Escape")
