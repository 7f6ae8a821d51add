"""The deployments pass on every setting of each service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from deploy.local.places import ROOT
from services.approval import settings as approval
from services.gateway import settings as gateway
from tools.support.yaml_file import load_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES: Final = ("gateway", "approval")
DECLARED: Final = {
    service: {setting.name for setting in settings.ALL}
    for service, settings in (("gateway", gateway), ("approval", approval))
}
COMPOSE: Final = load_yaml(ROOT / "docker-compose.yml")["services"]
RAILWAY: Final = (ROOT / ".railway/railway.ts").read_text()

IN_THE_IMAGE: Final = {
    "HOST": "deploy/Dockerfile sets it for every container",
    "GATEWAY_REUSE_PORT": "each gateway has an address of its own",
}
LEFT_OUT_OF_COMPOSE: Final[Mapping[str, str]] = {
    **IN_THE_IMAGE,
    "CONTROL_UI_DIR": "it names a directory, and the image holds no dashboard",
}
LEFT_OUT_OF_RAILWAY: Final[Mapping[str, str]] = {
    **IN_THE_IMAGE,
    "CONTROL_UI_DIR": "it names a directory, and the image holds no dashboard",
    "GATEWAY_LOCAL_CLIENTS": "no client runs on the machine of a gateway there",
    "LOG_FORMAT": "no terminal is there, so the default is JSON",
    **dict.fromkeys(
        (
            "OPERATOR_PROXY_USER_HEADER",
            "OPERATOR_PROXY_GROUPS_HEADER",
            "OPERATOR_PROXY_PERMISSIONS",
        ),
        "everybody reaches the services through the same proxies, and any of them could forge it",
    ),
}


def set_at_railway(service: str) -> set[str]:
    """Return what railway.ts sets for a service."""
    both = RAILWAY.split("const both = {", 1)[1].split("\n  };", 1)[0]
    own = RAILWAY.split(f'= service("{service}", {{', 1)[1].split("\n  });", 1)[0]
    assert "...both," in own
    return set(re.findall(r"(?m)^ +([A-Z][A-Z_]+):", both + own))


@pytest.mark.parametrize("container", [name for name in COMPOSE if name.startswith(SERVICES)])
def test_compose_passes_every_setting_or_says_why_not(container: str) -> None:
    passed = set(COMPOSE[container]["environment"])
    expected = DECLARED[container.partition("-")[0]]
    assert expected - passed == expected & set(LEFT_OUT_OF_COMPOSE)
    assert passed <= expected


@pytest.mark.parametrize("service", SERVICES)
def test_railway_sets_every_setting_or_says_why_not(service: str) -> None:
    found = set_at_railway(service)
    expected = DECLARED[service]
    assert expected - found == expected & set(LEFT_OUT_OF_RAILWAY)
    assert {name for name in found - expected if not name.startswith("RAILWAY_")} == set()


@pytest.mark.parametrize("left_out", [LEFT_OUT_OF_COMPOSE, LEFT_OUT_OF_RAILWAY])
def test_what_is_left_out_is_a_setting(left_out: Mapping[str, str]) -> None:
    assert set(left_out) <= DECLARED["gateway"] | DECLARED["approval"]
    assert all(left_out.values())
