"""`make dashboard` unpacks only the dashboard's files from one pinned, verified package."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy import dashboard
from deploy.local import dashboard_package
from deploy.local.dashboard_package import Package, fetch_dashboard, unpack
from deploy.local.errors import DashboardNotFetched
from deploy.local.places import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

INDEX = "package/dist/control-ui/index.html"
FILES = {
    INDEX: b"<html>the dashboard</html>",
    "package/dist/control-ui/assets/app-12345678.js": b"app",
    "package/dist/index.js": b"the gateway, which is not wanted",
    "package/package.json": b"{}",
}


def member(
    name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = size, kind, link, 0o777
    return info


def archive(path: Path, files: Mapping[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            tar.addfile(member(name, len(content)), io.BytesIO(content))
        for other in others:
            tar.addfile(other)
    return path


def pinned(directory: Path, packed: Path) -> Package:
    """Return a package whose pin matches an archive."""
    digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    pin = directory / "openclaw.txt"
    pin.write_text(f"# a comment\nopenclaw@1.2.3 sha512-{digest}\n")
    return Package(pin, directory / "dashboard")


def npm(directory: Path, script: str) -> dict[str, str]:
    """Put a fake npm on PATH that records its calls."""
    tools = directory / "tools"
    tools.mkdir()
    command = tools / "npm"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tools}/called\n{script}\n')
    command.chmod(0o755)
    return {"PATH": f"{tools}:{os.defpath}"}


def test_the_pin_is_the_release_that_the_clients_tests_use() -> None:
    locked = json.loads((ROOT / "deploy/openclaw/package-lock.json").read_text())
    package = locked["packages"]["node_modules/openclaw"]
    digest = base64.b64encode(Package().sha512).decode()
    assert (Package().version, f"sha512-{digest}") == (package["version"], package["integrity"])


class TestFetching:
    def test_only_the_dashboard_is_unpacked_from_the_pinned_package(self, tmp_path: Path) -> None:
        packed = archive(tmp_path / "p.tgz", FILES)
        package = pinned(tmp_path, packed)
        environ = npm(tmp_path, f"cp {packed} openclaw-1.2.3.tgz")
        assert not package.control_ui.exists()
        fetch_dashboard(environ, package)
        assert package.is_fetched
        found = {
            str(p.relative_to(package.directory))
            for p in package.directory.rglob("*.*")
            if p.is_file()
        }
        assert found == {
            "openclaw-1.2.3/control-ui/index.html",
            "openclaw-1.2.3/control-ui/assets/app-12345678.js",
        }
        called = (tmp_path / "tools/called").read_text()
        assert called == "pack openclaw@1.2.3 --ignore-scripts --loglevel=error\n"

    def test_another_package_than_the_pinned_one_is_refused(self, tmp_path: Path) -> None:
        package = pinned(tmp_path, archive(tmp_path / "p.tgz", FILES))
        other = archive(tmp_path / "q.tgz", {INDEX: b"something else"})
        with pytest.raises(DashboardNotFetched, match="SHA-512 differs"):
            fetch_dashboard(npm(tmp_path, f"cp {other} openclaw.tgz"), package)
        assert list(package.directory.iterdir()) == []

    def test_where_npm_fails_its_own_words_are_shown(self, tmp_path: Path) -> None:
        package = pinned(tmp_path, archive(tmp_path / "p.tgz", FILES))
        with pytest.raises(DashboardNotFetched, match="npm error network") as caught:
            fetch_dashboard(npm(tmp_path, "echo npm error network >&2; exit 1"), package)
        assert "exit status 1" in str(caught.value)
        assert list(package.directory.iterdir()) == []

    def test_without_npm_it_says_what_to_install(self, tmp_path: Path) -> None:
        package = pinned(tmp_path, archive(tmp_path / "p.tgz", FILES))
        with pytest.raises(DashboardNotFetched, match=r"npm is not installed; install Node\.js"):
            fetch_dashboard({"PATH": str(tmp_path)}, package)

    def test_what_is_there_is_not_fetched_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        package = pinned(tmp_path, archive(tmp_path / "p.tgz", FILES))
        package.control_ui.mkdir(parents=True)
        (package.control_ui / "index.html").touch()
        monkeypatch.setenv("PATH", "")
        assert dashboard.main(package) == 0
        assert "make run" in capsys.readouterr().out

    @pytest.mark.parametrize("spoiled", ["no pin at all\n", "openclaw@latest\n"])
    def test_a_pin_without_a_hash_fetches_nothing(
        self, tmp_path: Path, spoiled: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pin = tmp_path / "openclaw.txt"
        pin.write_text(spoiled)
        assert dashboard.main(Package(pin, tmp_path / "dashboard")) == 1
        assert "does not pin a package with its hash" in capsys.readouterr().err

    def test_a_directory_that_cannot_be_made_is_one_sentence(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        package = pinned(tmp_path, archive(tmp_path / "p.tgz", FILES))
        package.directory.write_text("a file")
        assert dashboard.main(package) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{package.directory} is a file, but must be a directory" in said


class TestUnpacking:
    def test_files_are_plain_whatever_their_modes_were(self, tmp_path: Path) -> None:
        unpack(archive(tmp_path / "p.tgz", FILES), tmp_path / "ui")
        mode = stat.S_IMODE((tmp_path / "ui/index.html").stat().st_mode)
        assert not mode & 0o111

    @pytest.mark.parametrize(
        "other",
        [
            member("package/dist/control-ui/../../../../evil.txt"),
            member("package/dist/control-ui/link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
            member("package/dist/control-ui/hard", kind=tarfile.LNKTYPE, link=INDEX),
            member("package/dist/control-ui/pipe", kind=tarfile.FIFOTYPE),
            member("package/dist/control-ui"),
        ],
    )
    def test_what_is_no_plain_file_below_the_dashboard_is_refused(
        self, tmp_path: Path, other: tarfile.TarInfo
    ) -> None:
        packed = archive(tmp_path / "p.tgz", FILES, other)
        with pytest.raises(DashboardNotFetched, match="not a regular file"):
            unpack(packed, tmp_path / "ui")
        assert not list(tmp_path.rglob("evil.txt"))
        assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]

    @pytest.mark.parametrize("name", ["/etc/evil.txt", "../evil.txt", "package/../../evil.txt"])
    def test_names_outside_the_dashboard_are_passed_over(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "in").mkdir()
        unpack(archive(tmp_path / "p.tgz", FILES, member(name)), tmp_path / "in" / "ui")
        assert not list(tmp_path.rglob("evil.txt"))
        assert not Path("/etc/evil.txt").exists()

    @pytest.mark.parametrize("limit", ["FILES_LIMIT", "UNPACKED_LIMIT_BYTES"])
    def test_more_than_a_dashboard_is_refused(
        self, tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dashboard_package, limit, 1)
        with pytest.raises(DashboardNotFetched, match="more than a dashboard"):
            unpack(archive(tmp_path / "p.tgz", FILES), tmp_path / "ui")

    def test_a_file_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DashboardNotFetched, match="cannot be unpacked"):
            unpack(archive(tmp_path / "p.tgz", FILES, member(INDEX)), tmp_path / "ui")

    def test_a_package_without_a_dashboard_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DashboardNotFetched, match=r"contains no control-ui/index\.html"):
            unpack(archive(tmp_path / "p.tgz", {"package/package.json": b"{}"}), tmp_path / "ui")

    def test_an_archive_that_is_cut_is_refused(self, tmp_path: Path) -> None:
        packed = archive(tmp_path / "p.tgz", {INDEX: os.urandom(4096)})
        packed.write_bytes(packed.read_bytes()[:2048])
        with pytest.raises(DashboardNotFetched, match="cannot be unpacked"):
            unpack(packed, tmp_path / "ui")
