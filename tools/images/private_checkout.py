"""Images built from a checkout whose files only their owner can read."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.local.places import ROOT
from tools.images.build import IMAGES, build_environ

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.images.stack import Stack

# Without settings, each of them ends at once, and says so only if it can read its files.
_COMMANDS: Final = {
    "latchkey": ((), "cannot start"),
    "latchkey-redis": ((), "REDIS_GATEWAY_PASSWORD is not set"),
    "latchkey-proxy": (
        ("haproxy", "-c", "-f", "/usr/local/etc/haproxy/haproxy.cfg"),
        "(?i)parsing .*haproxy.cfg:[0-9]+",
    ),
}


def build_private_checkout(stack: Stack) -> Iterator[tuple[str, str, str]]:
    """Build each image and start it; yield its name, what it printed and what is expected."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "checkout"
        _copy(copy)
        for image, dockerfile in IMAGES.items():
            base = [f"--build-arg={name}={value}" for name, value in build_environ().items()]
            tag = f"{image}-private"
            file = str(copy / dockerfile)
            stack.docker.do("build", "--quiet", f"--tag={tag}", *base, f"--file={file}", str(copy))
            command, expected = _COMMANDS[image]
            done = stack.docker.run("run", "--rm", "--no-healthcheck", tag, *command)
            stack.docker.run("image", "rm", tag)
            yield image, done.output, expected


def _copy(to: Path) -> None:
    """Copy the files under version control as `umask 077` would have made them."""
    paths = ("bin", "deploy", "services", "shared", ".dockerignore", "*.txt")
    listed = subprocess.run(
        ["git", "ls-files", "-z", *paths],  # noqa: S607  from PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
        target.chmod(target.stat().st_mode & 0o700)
    for path in [to, *to.rglob("*")]:
        if path.is_dir():
            path.chmod(0o700)
