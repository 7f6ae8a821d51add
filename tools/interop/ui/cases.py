"""The cases in order, and their expected facts."""

from __future__ import annotations

from typing import Final

from tools.interop.cases import Case
from tools.interop.ui.scenario import UiStory

Cases = tuple[Case[UiStory], ...]

DASHBOARD_4: Final[Cases] = (
    Case("opened with #token", UiStory.opened, ("Approve this browser", "names the request")),
    Case("approved over HTTP", UiStory.approved, ("HTTP 200", "Connected by itself")),
    Case(
        "/settings/devices",
        UiStory.devices_listed,
        ("itself connected", "another offline"),
    ),
    Case(
        "a second browser",
        UiStory.second_browser,
        ("shown at once", "approved by a click", "Connected by itself"),
    ),
    Case("two browsers", UiStory.at_both_gateways, ("at both gateways",)),
    Case("a device asks", UiStory.asked, ("shown at both at once",)),
    Case(
        "approved on one",
        UiStory.approved_by_click,
        ("paired at both at once", "its device comes in"),
    ),
    Case(
        "renamed on one",
        UiStory.renamed_by_click,
        ("shown at both at once", "named over HTTP"),
    ),
    Case(
        "removed on one",
        UiStory.removed_by_click,
        ("closed 4001 device removed", "gone", "HTTP 404"),
    ),
    Case(
        "token revoked over HTTP",
        UiStory.revoked,
        ("HTTP 200", "disconnected at once"),
    ),
)

DASHBOARD_3: Final[Cases] = (
    Case("opened with #token", UiStory.opened_3, ("pairing required",)),
    Case("approved over HTTP", UiStory.approved_3, ("HTTP 200", "Online after a reload")),
    Case("removed over HTTP", UiStory.removed_3, ("HTTP 200", "disconnected at once")),
)
