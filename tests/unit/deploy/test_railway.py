"""What .railway/railway.ts sets, and that its documentation says the same."""

from __future__ import annotations

import json
import re

import pytest

from deploy.local.places import ROOT
from deploy.secret_names import SECRETS
from services.approval import settings as approval
from services.gateway import settings as gateway
from shared.upstream import UNADMITTED_LIMIT_PER_ADDRESS

FILE = (ROOT / ".railway/railway.ts").read_text()
PAGE = (ROOT / "docs/railway.md").read_text()
SETTINGS = {setting.name for setting in (*gateway.ALL, *approval.ALL)}
SET = re.findall(r"(?m)^ +([A-Z][A-Z_]+):", FILE)
OF_OTHERS = {
    "REDIS_GATEWAY_PASSWORD",
    "REDIS_APPROVAL_PASSWORD",
    "OPENCLAW_GATEWAY_PORT",
    "OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP",
}
"""Variables of Redis and OpenClaw."""
CLOSING_SECONDS = 10


def value_of(name: str) -> str:
    """Return the last text that a variable is set to."""
    values: list[str] = re.findall(rf'(?m)^ +{name}:\s*"([^"]*)"', FILE)
    return values[-1]


def test_the_page_lists_every_variable_and_no_other() -> None:
    table = PAGE.split("\n## Variables\n", 1)[1].split("\n## ", 1)[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    listed = {name for cell in cells for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert listed == set(SET)


def test_every_variable_is_a_known_setting() -> None:
    for name in set(SET) - OF_OTHERS:
        assert name.startswith("RAILWAY_") or name in SETTINGS


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_written_there(name: str) -> None:
    values = re.findall(rf"(?m)^ +{name}: (.+),$", FILE)
    assert f'secret("{name}")' in values
    assert set(values) <= {f'secret("{name}")', f"approval.env.{name}"}


def test_openclaw_is_off_has_no_public_domain_and_allows_all_gateways_sockets() -> None:
    assert "const RUNS_OPENCLAW = false;" in FILE
    assert "...(RUNS_OPENCLAW ? [openclaw, state] : [])" in FILE
    gateways = int(re.findall(r"replicas: (\d+)", FILE)[-1])
    limit = int(value_of("OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP"))
    assert limit > gateways * UNADMITTED_LIMIT_PER_ADDRESS


def test_replicas_and_health_checks_are_declared() -> None:
    assert re.findall(r"replicas: (\d+)", FILE) == ["2", "3"]
    assert re.findall(r'healthcheck: "([^"]+)"', FILE) == ["/readyz", "/readyz"]
    assert re.findall(r'start: "([^"]+)"', FILE) == [
        "python -m services.approval",
        "python -m services.gateway",
    ]


def test_railway_waits_longer_than_the_drain() -> None:
    drain = int(value_of("DRAIN_SECONDS"))
    assert int(value_of("RAILWAY_DEPLOYMENT_DRAINING_SECONDS")) >= drain + CLOSING_SECONDS


def test_the_images_exist() -> None:
    paths = re.findall(r'dockerfilePath: "([^"]+)"', FILE)
    assert paths
    assert all((ROOT / path).is_file() for path in paths)


def test_the_types_come_from_an_exact_release() -> None:
    package = json.loads((ROOT / ".railway/package.json").read_text())
    locked = json.loads((ROOT / ".railway/package-lock.json").read_text())
    for name, version in package["devDependencies"].items():
        assert locked["packages"][f"node_modules/{name}"]["version"] == version
