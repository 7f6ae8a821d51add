"""An operator creates a setup code; its QR code is read from the screen, and a phone pairs by it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import pytest
import zxingcpp
from playwright.async_api import expect

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import ANDROID
from tests.browser.screens import DESKTOP, PHONE, SEE_MS, screen
from tests.browser.story_in_pictures import (
    AXE,
    DOCS,
    PICTURE_LIMIT_BYTES,
    check,
    no_wider_than_the_window,
)
from tools.support.setup_codes import read_setup_code

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from tools.support.processes.stack import Stack


GREY: Final = """async (png) => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const {data} = canvas.getImageData(0, 0, image.width, image.height);
  return [image.height, image.width, [...data].filter((_value, at) => at % 4 === 1)];
}"""
"""Decodes a screenshot: height, width, and the green of each pixel."""


async def pixels(page: Page, png: bytes) -> Any:
    """Return a screenshot as an image of one channel."""
    height, width, grey = await page.evaluate(GREY, base64.b64encode(png).decode())
    return memoryview(bytes(grey)).cast("B", shape=[height, width])


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
async def test_a_code_is_scanned_and_the_page_says_who_paired(
    browser: Browser, stack: Stack, tmp_path: Path, pytestconfig: pytest.Config, look: str
) -> None:
    viewport = PHONE if look == "phone" else DESKTOP
    scheme = "dark" if look == "dark" else "light"
    async with screen(browser, stack, viewport=viewport, color_scheme=scheme) as view:
        await view.page.add_init_script(path=AXE)
        await view.come_in()
        await view.page.get_by_role("button", name="Create setup code").click()
        panel = view.page.locator("#setup-code")
        await view.sees(panel, "Works once, for another 9 minutes")
        image = view.page.get_by_role("img", name="QR code of the setup code")
        await expect(image).to_be_visible(timeout=SEE_MS)
        await image.scroll_into_view_if_needed()
        (found,) = zxingcpp.read_barcodes(await pixels(view.page, await image.screenshot()))
        text = await view.page.get_by_label("Setup code", exact=True).input_value()
        assert found.text == text
        await view.picture(tmp_path / f"setup-code-{look}.png")
        if look == "light" and pytestconfig.getoption("--pictures"):
            picture = DOCS / "setup-code.png"
            await panel.screenshot(path=picture, animations="disabled")
            assert picture.stat().st_size < PICTURE_LIMIT_BYTES
        await check(view)
        await no_wider_than_the_window(view)
        token = read_setup_code(found.text)["bootstrapToken"]
        async with DeviceClient(
            stack.gateways[-1].ws_url,
            DeviceKey.generate(),
            ANDROID,
            credentials=Credentials(bootstrap_token=token),
        ) as phone:
            assert isinstance(await phone.connect(), Admitted)
            await view.sees(panel, "Device paired: Pixel Test.")
            await expect(image).to_be_hidden()
            assert await view.page.locator("#setup-code-text").input_value() == ""
        await view.page.get_by_role("button", name="Create setup code").click()
        card = view.page.locator("[data-setup-code]").first
        await view.sees(card, "not used yet")
        await card.get_by_role("button", name="Revoke").click()
        await view.confirm("Revoke")
        await view.sees(panel, "This code was revoked.")
        await expect(view.page.locator("[data-setup-code]")).to_have_count(0, timeout=SEE_MS)
