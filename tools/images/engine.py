"""The Docker command, for whatever engine DOCKER_HOST names."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from deploy.local.places import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMAND_SECONDS: Final = 900
"""Maximum duration of one Docker command, such as a build."""
ASK_SECONDS: Final = 20
SKIPPED: Final = 77
"""Exit status if there is no engine: by convention a skipped test, and not a passed one."""


class DockerFailed(Exception):
    """A Docker command failed; the message has the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed, and its exit status."""

    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Docker:
    """Runs `docker` in a directory with additional environment variables."""

    environ: Mapping[str, str] = field(default_factory=dict)
    directory: Path = ROOT

    def run(self, *arguments: str, seconds: float = COMMAND_SECONDS, given: str = "") -> Done:
        """Run a command and return what it printed, on both outputs."""
        try:
            done = subprocess.run(
                ["docker", *arguments],  # noqa: S607  from PATH
                cwd=self.directory,
                env={**os.environ, **self.environ},
                input=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DockerFailed(f"docker {arguments[0]} took longer than {seconds:g} s") from error
        return Done(done.returncode, done.stdout)

    def do(self, *arguments: str, given: str = "") -> str:
        """Run a command that has to succeed; raises DockerFailed."""
        done = self.run(*arguments, given=given)
        if done.status != 0:
            end = "\n".join(done.output.splitlines()[-15:])
            raise DockerFailed(f"docker {' '.join(arguments)} ended with {done.status}:\n{end}")
        return done.output.strip()

    def why_unusable(self, *parts: str) -> str:
        """Return why there is no engine, or a part of the command is missing; empty if usable."""
        if shutil.which("docker") is None:
            return "there is no docker command on PATH"
        for part in parts:
            if self.run(part, "version", seconds=ASK_SECONDS).status != 0:
                return f"docker has no {part} command"
        host = os.environ.get("DOCKER_HOST", "the default socket")
        try:
            # `docker info` succeeds without an engine.
            done = self.run("version", "--format", "{{.Server.Version}}", seconds=ASK_SECONDS)
        except DockerFailed as error:
            return f"{host}: {error}"
        if done.status != 0:
            lines = done.output.strip().splitlines() or ["no answer"]
            return f"no engine answers at {host}: {lines[-1]}"
        return ""
