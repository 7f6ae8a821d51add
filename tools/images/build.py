"""Build the images, for this machine or, pushed to a registry, for several platforms."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.local.places import ROOT
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.images.engine import Docker

PINS: Final = ROOT / "deploy" / "base-images.env"
IMAGES: Final = {
    "latchkey": "deploy/Dockerfile",
    "latchkey-redis": "deploy/redis/Dockerfile",
    "latchkey-proxy": "deploy/proxy/Dockerfile",
}
"""The images of a release, and their Dockerfiles."""
_PIN: Final = re.compile(r"(\w+_IMAGE)=([\w./-]+:[\w.-]+)(@sha256:[0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class Release:
    """How images are built: for which platforms, and where they are pushed; empty: nowhere."""

    registry: str = ""
    platforms: str = ""
    tag: str = VERSION

    def name(self, image: str) -> str:
        """Return an image's name with its tag."""
        return f"{self.registry}/{image}:{self.tag}" if self.registry else image


def read_pins(file: Path = PINS) -> dict[str, str]:
    """Return the base images by build argument; raises ValueError."""
    found: dict[str, str] = {}
    for line in file.read_text().splitlines():
        if line and not line.startswith("#"):
            match = _PIN.fullmatch(line)
            if match is None:
                raise ValueError(f"{file}: {line!r} is not NAME_IMAGE=image:tag@sha256:digest")
            found[match[1]] = match[2] + (match[3] or "")
    return found


def unpinned(pins: Mapping[str, str]) -> list[str]:
    """Return the base images without a digest."""
    return [image for image in pins.values() if "@" not in image]


def renew_pins(docker: Docker, file: Path = PINS) -> list[str]:
    """Ask the registries for today's digests and write them; return the lines that changed."""
    text = file.read_text()
    changed: list[str] = []
    for name, image in read_pins(file).items():
        bare = image.partition("@")[0]
        answer = docker.do(
            "buildx", "imagetools", "inspect", bare, "--format", "{{json .Manifest}}"
        )
        digest = json.loads(answer)["digest"]
        if image != f"{bare}@{digest}":
            changed.append(f"{name}={bare}@{digest}")
            text = text.replace(f"{name}={image}\n", f"{changed[-1]}\n")
    file.write_text(text)
    return changed


def build_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the build arguments: base images, unless the environment names others, and labels."""
    base = {name: environ.get(name) or image for name, image in read_pins().items()}
    return {
        **base,
        "VERSION": VERSION,
        "REVISION": environ.get("REVISION") or _git("rev-parse", "HEAD") or "unknown",
        "SOURCE": environ.get("SOURCE") or _git("remote", "get-url", "origin") or "unknown",
    }


def build(docker: Docker, release: Release) -> dict[str, str]:
    """Build every image; return the digests of those that were pushed."""
    arguments = build_environ()
    digests: dict[str, str] = {}
    for image, dockerfile in IMAGES.items():
        declared = set(re.findall(r"(?m)^ARG (\w+)", (ROOT / dockerfile).read_text()))
        given = [f"--build-arg={name}={arguments[name]}" for name in arguments if name in declared]
        command = ["buildx", "build", "--file", dockerfile, "--tag", release.name(image), *given]
        with tempfile.TemporaryDirectory() as directory:
            metadata = Path(directory) / "metadata.json"
            if release.registry:
                command += [f"--platform={release.platforms}", "--push", "--pull"]
                command += ["--sbom=true", "--provenance=mode=max", f"--metadata-file={metadata}"]
            else:
                command += ["--load"]
            docker.do(*command, ".")
            if release.registry:
                digests[release.name(image)] = json.loads(metadata.read_text())[
                    "containerimage.digest"
                ]
    return digests


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607  from PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
