"""Fetch OpenClaw's dashboard with `npm pack`, verify its hash, and unpack only its files.

Nothing is installed, so the Node.js version does not matter and no package scripts run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from deploy.local.errors import DashboardNotFetched
from deploy.local.places import DASHBOARD, OPENCLAW_PIN

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = PurePosixPath("package/dist/control-ui")
"""Path of the dashboard in the package."""
FILES_LIMIT: Final = 20_000
UNPACKED_LIMIT_BYTES: Final = 256 * 1024 * 1024
NPM_LINES_SHOWN: Final = 5
_PIN: Final = re.compile(r"(?m)^(openclaw)@(\S+) sha512-(\S+)$")


@dataclass(frozen=True, slots=True)
class Package:
    """The package pinned in the file `pin`, and the directory for its dashboard."""

    pin: Path = OPENCLAW_PIN
    directory: Path = DASHBOARD

    @property
    def specification(self) -> str:
        """The package specification for npm."""
        return f"openclaw@{self.version}"

    @property
    def version(self) -> str:
        """The pinned release."""
        return self._pinned()[0]

    @property
    def sha512(self) -> bytes:
        """The expected digest of the package."""
        return self._pinned()[1]

    @property
    def control_ui(self) -> Path:
        """The dashboard's directory, separate for each release."""
        return self.directory / f"openclaw-{self.version}" / "control-ui"

    @property
    def is_fetched(self) -> bool:
        """Whether the dashboard is present; it is complete, because it is renamed into place."""
        return (self.control_ui / "index.html").is_file()

    def _pinned(self) -> tuple[str, bytes]:
        found = _PIN.search(self.pin.read_text())
        if found is None:
            raise DashboardNotFetched(f"{self.pin} does not pin a package with its hash")
        return found[2], base64.b64decode(found[3], validate=True)


def fetch_dashboard(environ: Mapping[str, str], package: Package) -> None:
    """Fetch the package and unpack its dashboard. Raises DashboardNotFetched, OSError."""
    npm = shutil.which("npm", path=environ.get("PATH", ""))
    if npm is None:
        raise DashboardNotFetched(
            "npm is not installed; install Node.js 18 or newer, which includes it"
        )
    package.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=package.directory) as directory:
        archive = _pack(npm, package, Path(directory), environ)
        _verify(archive, package)
        draft = Path(directory, "control-ui")
        unpack(archive, draft)
        package.control_ui.parent.mkdir(exist_ok=True)
        if not package.is_fetched:
            draft.replace(package.control_ui)


def _pack(npm: str, package: Package, directory: Path, environ: Mapping[str, str]) -> Path:
    """Download the package with npm, as published."""
    done = subprocess.run(
        [npm, "pack", package.specification, "--ignore-scripts", "--loglevel=error"],
        cwd=directory,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    archives = list(directory.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        errors = "\n".join(done.stderr.strip().splitlines()[:NPM_LINES_SHOWN])
        raise DashboardNotFetched(
            f"`npm pack {package.specification}` failed with exit status {done.returncode}"
            + (f":\n{errors}" if errors else "")
        )
    return archives[0]


def _verify(archive: Path, package: Package) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if not hmac.compare_digest(digest, package.sha512):
        raise DashboardNotFetched(
            f"what npm downloaded is not the {package.specification} that {package.pin.name} pins "
            "(its SHA-512 differs); nothing was unpacked"
        )


def unpack(archive: Path, target: Path) -> None:
    """Write the dashboard's files below `target`, which must not exist. Raises DashboardNotFetched.

    Only regular files are written, and none outside the target.
    """
    target.mkdir()
    files = size = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if not path.is_relative_to(FOLDER) or member.isdir():
                    continue
                inside = path.relative_to(FOLDER)
                if not member.isreg() or not inside.parts or ".." in inside.parts:
                    raise DashboardNotFetched(
                        f"the package contains {member.name!r}, which is not a regular file"
                    )
                files, size = files + 1, size + member.size
                if files > FILES_LIMIT or size > UNPACKED_LIMIT_BYTES:
                    raise DashboardNotFetched("the package contains more than a dashboard should")
                content = tar.extractfile(member)
                file = target / inside
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as out:
                    if content is not None:
                        shutil.copyfileobj(content, out)
    except (tarfile.TarError, EOFError, FileExistsError) as error:
        raise DashboardNotFetched(f"the package cannot be unpacked: {error}") from error
    if not (target / "index.html").is_file():
        raise DashboardNotFetched(f"the package contains no {FOLDER.name}/index.html")
