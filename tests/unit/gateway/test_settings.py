"""The gateway's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.gateway.connections.places import PlaceLimits
from services.gateway.http.limits import place_limits
from services.gateway.settings import read_settings
from shared.settings.environment import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from services.gateway.settings import Settings

REQUIRED = {
    "REDIS_URL": "redis://localhost",
    "BUS_SECRET": "x" * 32,
    "OPENCLAW_GATEWAY_TOKEN": "y" * 32,
}


def read(**environ: str) -> Settings:
    return read_settings({**REQUIRED, **environ})


@pytest.fixture
def ui(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<html></html>")
    return tmp_path


class TestControlUiDir:
    def test_none_unless_it_is_set(self) -> None:
        assert read().control_ui_dir is None
        assert read(CONTROL_UI_DIR=" ").control_ui_dir is None

    def test_a_directory_with_an_index_is_accepted(self, ui: Path) -> None:
        settings = read(CONTROL_UI_DIR=str(ui))
        assert settings.control_ui_dir == ui
        assert settings.warnings == ()

    def test_any_other_value_is_reported_with_the_accepted_ones(self, ui: Path) -> None:
        (ui / "empty").mkdir()
        for name, wrong in (
            ("gone", "is not a directory"),
            ("index.html", "is not a directory"),
            ("empty", "contains no index.html"),
        ):
            with pytest.raises(SettingsError) as raised:
                read(CONTROL_UI_DIR=str(ui / name))
            (problem,) = raised.value.problems
            assert f"CONTROL_UI_DIR={ui / name}: {wrong}; " in problem
            assert "<npm package openclaw>/dist/control-ui" in problem

    def test_an_unreadable_directory_is_reported(
        self, ui: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("os.access", lambda *_: False)
        with pytest.raises(SettingsError, match="is not readable"):
            read(CONTROL_UI_DIR=str(ui))


class TestTheDashboardsOwnOrigin:
    @pytest.mark.parametrize("url", ["https://gw.example", "wss://gw.example:443/x"])
    def test_a_missing_origin_is_reported_if_browsers_would_be_refused(
        self, ui: Path, url: str
    ) -> None:
        (warning,) = read(CONTROL_UI_DIR=str(ui), GATEWAY_PUBLIC_URL=url).warnings
        assert "GATEWAY_ALLOWED_ORIGINS lacks" in warning
        assert "https://gw.example:" in warning

    @pytest.mark.parametrize(
        ("url", "allowed"),
        [
            ("https://gw.example", "https://gw.example"),
            ("https://gw.example", "*"),
            ("http://127.0.0.1:18789", ""),
            ("http://192.168.1.5:18789", ""),
            ("", ""),
        ],
    )
    def test_no_origin_is_missing_if_the_dashboard_may_connect(
        self, ui: Path, url: str, allowed: str
    ) -> None:
        settings = read(
            CONTROL_UI_DIR=str(ui), GATEWAY_PUBLIC_URL=url, GATEWAY_ALLOWED_ORIGINS=allowed
        )
        assert settings.warnings == ()

    def test_no_origin_is_missing_without_a_dashboard(self) -> None:
        assert read(GATEWAY_PUBLIC_URL="https://gw.example").warnings == ()


class TestUpstream:
    URL = "ws://openclaw.internal:18789"

    def test_none_unless_it_is_set(self) -> None:
        settings = read(UPSTREAM_SECRET="z" * 32)
        assert settings.upstream is None
        assert settings.warnings == ()

    def test_the_upstreams_dashboard_takes_precedence_over_files_here(self, ui: Path) -> None:
        for directory in (str(ui), str(ui / "gone")):
            settings = read(
                UPSTREAM_URL=self.URL, UPSTREAM_SECRET="z" * 32, CONTROL_UI_DIR=directory
            )
            assert settings.control_ui_dir is None
            (warning,) = settings.warnings
            assert warning.startswith("CONTROL_UI_DIR does nothing with UPSTREAM_URL")

    def test_its_dashboards_own_origin_is_missed(self) -> None:
        settings = read(
            UPSTREAM_URL=self.URL,
            UPSTREAM_SECRET="z" * 32,
            GATEWAY_PUBLIC_URL="https://gw.example",
        )
        (warning,) = settings.warnings
        assert "GATEWAY_ALLOWED_ORIGINS lacks" in warning

    @pytest.mark.parametrize("url", ["http://x", "openclaw:18789", "ws://u:p@x"])
    def test_an_invalid_address_is_reported(self, url: str) -> None:
        with pytest.raises(SettingsError, match="UPSTREAM_URL"):
            read(UPSTREAM_URL=url, UPSTREAM_SECRET="z" * 32)

    @pytest.mark.parametrize("secret", ["", "short", f"{'z' * 32},short"])
    def test_an_upstream_needs_a_secret(self, secret: str) -> None:
        with pytest.raises(SettingsError, match="UPSTREAM_SECRET"):
            read(UPSTREAM_URL=self.URL, UPSTREAM_SECRET=secret)


class TestReusePort:
    def test_only_yes_shares_the_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.platform", "linux")
        assert not read().reuse_port
        assert not read(GATEWAY_REUSE_PORT="no").reuse_port
        assert read(GATEWAY_REUSE_PORT="yes").reuse_port
        with pytest.raises(SettingsError, match="GATEWAY_REUSE_PORT=true: must be one of no, yes"):
            read(GATEWAY_REUSE_PORT="true")

    def test_it_is_refused_where_connections_would_not_be_distributed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.platform", "darwin")
        with pytest.raises(SettingsError, match="GATEWAY_REUSE_PORT=yes: only Linux"):
            read(GATEWAY_REUSE_PORT="yes")


class TestWaiting:
    def test_nobody_is_held_unless_it_is_set(self) -> None:
        assert read().wait_seconds == 0
        assert read(GATEWAY_WAIT_SECONDS="12.5").wait_seconds == 12.5

    @pytest.mark.parametrize("value", ["-1", "30.5", "soon"])
    def test_it_is_bounded(self, value: str) -> None:
        with pytest.raises(SettingsError, match=f"GATEWAY_WAIT_SECONDS={value}"):
            read(GATEWAY_WAIT_SECONDS=value)

    def test_nobody_is_held_with_an_upstream_and_a_warning_says_so(self) -> None:
        upstream = {
            "UPSTREAM_URL": "ws://10.0.0.7:18789",
            "UPSTREAM_SECRET": "the secret that the upstream shares with this",
            "GATEWAY_ALLOWED_ORIGINS": "*",
        }
        settings = read(GATEWAY_WAIT_SECONDS="12", **upstream)
        assert settings.wait_seconds == 0
        (warning,) = settings.warnings
        assert warning.startswith("GATEWAY_WAIT_SECONDS does nothing with UPSTREAM_URL")
        assert read(GATEWAY_WAIT_SECONDS="0", **upstream).warnings == ()


class TestPlaces:
    def test_an_address_has_half_of_all_places_unless_it_is_set(self) -> None:
        assert place_limits(read()) == PlaceLimits(20_000, 10_000, 64, 32)
        assert place_limits(read(GATEWAY_CONNECTION_LIMIT="1")).per_address == 1
        limits = place_limits(
            read(
                GATEWAY_CONNECTION_LIMIT="100",
                GATEWAY_CONNECTION_LIMIT_PER_ADDRESS="90",
                GATEWAY_CONNECTION_LIMIT_PER_DEVICE="3",
                GATEWAY_PREAUTH_LIMIT_PER_ADDRESS="7",
            )
        )
        assert limits == PlaceLimits(100, 90, 3, 7)

    def test_all_wrong_limits_are_reported_at_once(self) -> None:
        with pytest.raises(SettingsError) as raised:
            read(GATEWAY_CONNECTION_LIMIT_PER_ADDRESS="-1", GATEWAY_CONNECTION_LIMIT_PER_DEVICE="0")
        assert [problem.partition("=")[0] for problem in raised.value.problems] == [
            "GATEWAY_CONNECTION_LIMIT_PER_ADDRESS",
            "GATEWAY_CONNECTION_LIMIT_PER_DEVICE",
        ]
