"""OpenClaw's dashboard: fetched with `npm pack`, verified by hash, and only its files unpacked.

Nothing is installed, so neither the Node.js version nor any script of the package matters.
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
"""Where the dashboard lies in the package."""
FILES_LIMIT: Final = 20_000
UNPACKED_LIMIT_BYTES: Final = 256 * 1024 * 1024
NPM_LINES_SHOWN: Final = 5
_PIN: Final = re.compile(r"(?m)^(openclaw)@(\S+) sha512-(\S+)$")


@dataclass(frozen=True, slots=True)
class Package:
    """The pinned package (`pin`: the file that names it), and below which directory it is kept."""

    pin: Path = OPENCLAW_PIN
    directory: Path = DASHBOARD

    @property
    def specification(self) -> str:
        """The package as npm names it."""
        return f"openclaw@{self.version}"

    @property
    def version(self) -> str:
        """The pinned release."""
        return self._pinned()[0]

    @property
    def sha512(self) -> bytes:
        """The digest that the package must have."""
        return self._pinned()[1]

    @property
    def control_ui(self) -> Path:
        """Where the pinned release's dashboard is kept; another release is kept elsewhere."""
        return self.directory / f"openclaw-{self.version}" / "control-ui"

    @property
    def is_fetched(self) -> bool:
        """Whether the dashboard is there. It is whole, because it appears in one step."""
        return (self.control_ui / "index.html").is_file()

    def _pinned(self) -> tuple[str, bytes]:
        found = _PIN.search(self.pin.read_text())
        if found is None:
            raise DashboardNotFetched(f"{self.pin} names no package with its hash")
        return found[2], base64.b64decode(found[3], validate=True)


def fetch_dashboard(environ: Mapping[str, str], package: Package) -> None:
    """Fetch the package and unpack its dashboard. Raises DashboardNotFetched, OSError."""
    npm = shutil.which("npm", path=environ.get("PATH", ""))
    if npm is None:
        raise DashboardNotFetched(
            "npm is not installed; install Node.js, 18 or newer, which brings it"
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
    """Let npm download the package as it was published."""
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
        said = "\n".join(done.stderr.strip().splitlines()[:NPM_LINES_SHOWN])
        raise DashboardNotFetched(
            f"`npm pack {package.specification}` failed with exit status {done.returncode}"
            + (f":\n{said}" if said else "")
        )
    return archives[0]


def _verify(archive: Path, package: Package) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if not hmac.compare_digest(digest, package.sha512):
        raise DashboardNotFetched(
            f"what npm downloaded is not the {package.specification} that {package.pin.name} pins "
            "(its SHA-512 differs); nothing of it was unpacked"
        )


def unpack(archive: Path, target: Path) -> None:
    """Write the dashboard's files below `target`, which must not exist. Raises DashboardNotFetched.

    Only regular files are written, each below the target whatever its name says.
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
                    raise DashboardNotFetched(f"the package holds {member.name!r}, no plain file")
                files, size = files + 1, size + member.size
                if files > FILES_LIMIT or size > UNPACKED_LIMIT_BYTES:
                    raise DashboardNotFetched("the package holds more than a dashboard should")
                content = tar.extractfile(member)
                file = target / inside
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as out:
                    if content is not None:
                        shutil.copyfileobj(content, out)
    except (tarfile.TarError, EOFError, FileExistsError) as error:
        raise DashboardNotFetched(f"the package cannot be unpacked: {error}") from error
    if not (target / "index.html").is_file():
        raise DashboardNotFetched(f"the package holds no {FOLDER.name}/index.html")
