"""Settings that both services read the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval import settings as approval_settings
from services.approval.settings import read_settings as read_approval
from services.gateway import settings as gateway_settings
from services.gateway.settings import read_settings as read_gateway
from shared.settings.declarations import Choice, Number, Secret, Setting
from shared.settings.environment import SettingsError, SettingsReader, is_bare_scheme

if TYPE_CHECKING:
    from types import ModuleType

SECRET = "s" * 32
GATEWAY = {
    "REDIS_URL": "redis://127.0.0.1:6379",
    "BUS_SECRET": SECRET,
    "OPENCLAW_GATEWAY_TOKEN": SECRET,
}
APPROVAL = {
    "REDIS_URL": "redis://127.0.0.1:6379",
    "BUS_SECRET": SECRET,
    "APPROVAL_ADMIN_TOKEN": SECRET,
    "TOKEN_SECRET": SECRET,
}


class Recorded(dict[str, str]):
    """An environment that records which variables are read."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        """Record the name and return its value."""
        self.read.add(name)
        return super().get(name, default)


@pytest.mark.parametrize(
    ("module", "environ"),
    [
        (gateway_settings, GATEWAY),
        (gateway_settings, GATEWAY | {"UPSTREAM_URL": "ws://h", "UPSTREAM_SECRET": SECRET}),
        (approval_settings, APPROVAL),
    ],
)
def test_every_setting_that_is_read_is_listed_and_no_other(
    module: ModuleType, environ: dict[str, str]
) -> None:
    recorded = Recorded(environ)
    module.read_settings(recorded)
    listed = {setting.name for setting in module.ALL}
    without_upstream = {"UPSTREAM_SECRET"} if "UPSTREAM_URL" not in environ else set()
    files = {
        f"{setting.name}_FILE"
        for setting in module.ALL
        if isinstance(setting, Secret) or (isinstance(setting, Setting) and setting.secret)
    }
    assert recorded.read - files == listed - without_upstream
    assert files - recorded.read == {f"{name}_FILE" for name in without_upstream & listed}


@pytest.mark.parametrize("value", ["https://", "http://", "wss://", " https:// ", "https:///"])
def test_a_scheme_with_nothing_after_it_is_bare(value: str) -> None:
    assert is_bare_scheme(value)


@pytest.mark.parametrize(
    "value", ["", "https://a", "https://:443", "https://?x", "127.0.0.1", "*", "https:"]
)
def test_everything_else_is_evaluated_verbatim(value: str) -> None:
    assert not is_bare_scheme(value)


class TestBareScheme:
    """The result of `https://${DOMAIN}` while DOMAIN is empty."""

    @pytest.mark.parametrize("value", ["https://", "wss://", "http:///"])
    def test_gateway_public_url_counts_as_not_set_and_is_warned_of(self, value: str) -> None:
        for settings in (
            read_gateway({**GATEWAY, "GATEWAY_PUBLIC_URL": value}),
            read_approval({**APPROVAL, "GATEWAY_PUBLIC_URL": value}),
        ):
            (warning,) = settings.warnings
            assert "GATEWAY_PUBLIC_URL" in warning
            assert value in warning
        assert read_gateway({**GATEWAY, "GATEWAY_PUBLIC_URL": value}).public_url == ""
        assert read_approval({**APPROVAL, "GATEWAY_PUBLIC_URL": value}).gateway_public_url == ""

    def test_approval_public_url_counts_as_not_set_and_is_warned_of(self) -> None:
        for settings in (
            read_gateway({**GATEWAY, "APPROVAL_PUBLIC_URL": "https://"}),
            read_approval({**APPROVAL, "APPROVAL_PUBLIC_URL": "https://"}),
        ):
            assert settings.common.approval_public_url == ""
            assert "APPROVAL_PUBLIC_URL" in settings.warnings[0]

    def test_an_allowed_origin_is_left_out_and_the_others_stay(self) -> None:
        settings = read_gateway(
            {**GATEWAY, "GATEWAY_ALLOWED_ORIGINS": "https://, https://a.example"}
        )
        assert settings.allowed_origins == {"https://a.example"}
        assert "GATEWAY_ALLOWED_ORIGINS" in settings.warnings[0]
        alone = read_gateway({**GATEWAY, "GATEWAY_ALLOWED_ORIGINS": "https://"})
        assert alone.allowed_origins == frozenset()

    def test_all_that_a_first_deployment_leaves_empty_is_warned_of_once_each(self) -> None:
        names = ("GATEWAY_PUBLIC_URL", "APPROVAL_PUBLIC_URL", "GATEWAY_ALLOWED_ORIGINS")
        settings = read_gateway({**GATEWAY, **dict.fromkeys(names, "https://")})
        assert sorted(warning.partition(":")[0] for warning in settings.warnings) == sorted(names)

    def test_a_required_address_stays_required(self) -> None:
        with pytest.raises(SettingsError) as caught:
            read_gateway({**GATEWAY, "REDIS_URL": "redis://"})
        assert caught.value.problems == (
            "REDIS_URL redis:// has no host after it: give a redis:// address",
        )

    def test_a_secret_is_never_quoted(self) -> None:
        reader = SettingsReader({"BUS_SECRET": "a" * 40 + "://"})
        assert reader.secrets(Secret("BUS_SECRET", "")).first == "a" * 40 + "://"
        assert reader.warnings == []

    def test_any_setting_falls_back_to_its_default(self) -> None:
        reader = SettingsReader({"LOG_LEVEL": "https://", "PORT": "https://"})
        assert reader.choice(Choice("LOG_LEVEL", "", "info", ("info",))) == "info"
        assert reader.integer(Number("PORT", "", 18789, 0, 65_535)) == 18789
        assert reader.problems == []
        assert len(reader.warnings) == 2
