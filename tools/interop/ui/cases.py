"""The cases in order, and their expected facts."""

from __future__ import annotations

from typing import Final

from tools.interop.cases import Case
from tools.interop.ui.scenario import UiScenario

Cases = tuple[Case[UiScenario], ...]

DASHBOARD_4: Final[Cases] = (
    Case("opened with #token", UiScenario.opened, ("Approve this browser", "names the request")),
    Case("approved over HTTP", UiScenario.approved, ("HTTP 200", "Connected by itself")),
    Case(
        "/settings/devices",
        UiScenario.devices_listed,
        ("itself connected", "another offline"),
    ),
    Case(
        "a second browser",
        UiScenario.second_browser,
        ("shown at once", "approved by a click", "Connected by itself"),
    ),
    Case("two browsers", UiScenario.at_both_gateways, ("at both gateways",)),
    Case("a device asks", UiScenario.asked, ("shown at both at once",)),
    Case(
        "approved on one",
        UiScenario.approved_by_click,
        ("paired at both at once", "its device comes in"),
    ),
    Case(
        "renamed on one",
        UiScenario.renamed_by_click,
        ("shown at both at once", "named over HTTP"),
    ),
    Case(
        "removed on one",
        UiScenario.removed_by_click,
        ("closed 4001 device removed", "gone", "HTTP 404"),
    ),
    Case(
        "token revoked over HTTP",
        UiScenario.revoked,
        ("HTTP 200", "disconnected at once"),
    ),
)

DASHBOARD_3: Final[Cases] = (
    Case("opened with #token", UiScenario.opened_3, ("pairing required",)),
    Case("approved over HTTP", UiScenario.approved_3, ("HTTP 200", "Online after a reload")),
    Case("removed over HTTP", UiScenario.removed_3, ("HTTP 200", "disconnected at once")),
)
