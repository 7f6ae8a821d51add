from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.local.errors import BadSetting
from deploy.local.places import DEFAULT_DATA_DIR
from deploy.local.settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_fixed_when_nothing_is_set() -> None:
    settings = read_settings({})
    assert (settings.gateway_port, settings.approval_port) == (18789, 18790)
    assert settings.redis_url is None
    assert settings.data_dir == DEFAULT_DATA_DIR


def test_empty_counts_as_not_set() -> None:
    names = ("GATEWAY_PORT", "APPROVAL_PORT", "REDIS_URL", "DATA_DIR")
    assert read_settings(dict.fromkeys(names, " ")) == read_settings({})


def test_every_setting_is_read(tmp_path: Path) -> None:
    settings = read_settings(
        {
            "GATEWAY_PORT": "0",
            "APPROVAL_PORT": "65535",
            "REDIS_URL": "redis://elsewhere",
            "DATA_DIR": str(tmp_path),
        }
    )
    assert (settings.gateway_port, settings.approval_port) == (0, 65535)
    assert settings.redis_url == "redis://elsewhere"
    assert settings.secrets_file == tmp_path / "secrets.env"


@pytest.mark.parametrize("value", ["-1", "65536", "http", "1.5", "²"])
def test_an_invalid_port_is_named(value: str) -> None:
    with pytest.raises(BadSetting, match="APPROVAL_PORT="):
        read_settings({"APPROVAL_PORT": value})


def test_every_wrong_port_is_named_at_once() -> None:
    with pytest.raises(BadSetting) as caught:
        read_settings({"GATEWAY_PORT": "http", "APPROVAL_PORT": "70000"})
    said = str(caught.value).splitlines()
    assert [line.partition("=")[0] for line in said] == ["GATEWAY_PORT", "APPROVAL_PORT"]


@pytest.mark.parametrize(
    ("ports", "why"),
    [
        ({"GATEWAY_PORT": "4000", "APPROVAL_PORT": "4000"}, "are both 4000"),
        ({"APPROVAL_PORT": "18789"}, "are both 18789"),
    ],
)
def test_two_services_cannot_share_a_port(ports: dict[str, str], why: str) -> None:
    with pytest.raises(BadSetting, match=why):
        read_settings(ports)
    free = read_settings({"GATEWAY_PORT": "0", "APPROVAL_PORT": "0"})
    assert free.gateway_port == free.approval_port == 0
