"""A setup code that a person creates in OpenClaw's dashboard, and the phone that redeems it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.interop.cases import Case
from tools.interop.facts import Facts, Unexpected
from tools.interop.setup.phone import Phone
from tools.support.setup_codes import read_setup_code

if TYPE_CHECKING:
    from tools.interop.latchkey import Latchkey
    from tools.interop.reference.client import Reference
    from tools.interop.ui.browser import Page

_DIALOG: Final = ".device-pair-setup__body"


class PageScenario:
    """One round: an approved dashboard, and a phone."""

    def __init__(self, latchkey: Latchkey, page: Page, reference: Reference) -> None:
        self._latchkey = latchkey
        self._page = page
        self._reference = reference
        self._token = ""
        self._phone: Phone | None = None

    async def approved(self) -> None:
        """Wait until the dashboard asks for access, and approve it."""
        await self._page.see("^Approve this browser$")
        _, waiting = await self._latchkey.call("GET", "/v1/requests")
        for request in waiting["pending"]:
            await self._latchkey.approve(request["requestId"])
        await self._page.see("^Connected$")

    async def created(self) -> Facts:
        """Choose Pair device, leave the choice at full access, and create a code."""
        site = self._latchkey.gateway.replace("ws://", "http://")
        await self._page.go(f"{site}/settings/devices")
        await self._page.click("button::-p-text(Pair device)")
        await self._page.see("^Full access", selector=_DIALOG)
        await self._page.click(f"{_DIALOG} > button.primary")
        code = await self._page.read(f"{_DIALOG} details code")
        self._token = read_setup_code(code)["bootstrapToken"]
        await self._page.see(selector=f'{_DIALOG} img[src^="data:image/png"]')
        return "a setup code", "a QR code"

    async def redeemed(self) -> Facts:
        """Let a phone redeem it, and look at the page."""
        self._phone = Phone(await self._reference.device(), self._latchkey.gateway)
        facts = await self._phone.redeem(self._token)
        await self._page.see("^Device paired", selector=_DIALOG)
        await self._page.see("Full access$", selector=_DIALOG)
        return *facts, "the page says Device paired, Full access"

    async def operates(self) -> Facts:
        """Let the phone connect as an operator."""
        if self._phone is None:
            raise Unexpected("there is no phone")
        return await self._phone.operate()

    async def stop(self) -> None:
        """Stop the phone."""
        if self._phone is not None:
            await self._phone.stop()


PAGE_CASES: Final = (
    Case(
        "Pair device, Full, Create setup code", PageScenario.created, ("a setup code", "a QR code")
    ),
    Case(
        "a phone redeems it",
        PageScenario.redeemed,
        (
            "node by bootstrap-token",
            "node token stored",
            "further tokens: operator",
            "the page says Device paired, Full access",
        ),
    ),
    Case(
        "the phone's operator connection",
        PageScenario.operates,
        ("operator by device-token", "operator.admin", "lists itself"),
    ),
)
