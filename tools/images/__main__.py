"""`make images` and `make compose-test`: build the images, and test them in containers.

Both use the Docker engine that DOCKER_HOST names. Without an engine they do nothing and exit with
status 77, which means "skipped".
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.version import VERSION
from tools.images.build import PINS, Release, build, read_pins, renew_pins, unpinned
from tools.images.engine import SKIPPED, Docker, DockerFailed
from tools.images.profiles import PROFILES
from tools.images.story import Story

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Build or test; return the exit status."""
    given = _parser().parse_args(arguments)
    docker = Docker()
    needed = ["compose"] if given.command == "test" else ["buildx"]
    if why := docker.why_unusable(*needed):
        print(f"SKIPPED, nothing was {given.done}: {why}.", file=sys.stderr)
        return SKIPPED
    try:
        return int(given.run(docker, given))
    except DockerFailed as error:
        print(error, file=sys.stderr)
        return 1


def _build(docker: Docker, given: argparse.Namespace) -> int:
    if given.pin:
        print("\n".join(renew_pins(docker)) or "All digests are up to date.")
        return 0
    release = Release(given.registry, given.platforms, given.tag or VERSION)
    if release.registry and (missing := unpinned(read_pins())):
        print(
            f"{PINS.name} has no digest for {', '.join(missing)}. Run make images ARGS=--pin and "
            "commit the file.",
            file=sys.stderr,
        )
        return 1
    digests = build(docker, release)
    lines = [f"{name}@{digest}" for name, digest in digests.items()]
    if given.digests:
        given.digests.write_text("".join(f"{line}\n" for line in lines))
    print("\n".join(lines) or "Built.")
    return 0


def _test(docker: Docker, given: argparse.Namespace) -> int:
    return Story(docker, profiles=given.profiles, keep=given.keep).tell()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools.images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    images = commands.add_parser("build", prog="make images", help="build the images")
    images.set_defaults(run=_build, done="built")
    images.add_argument("--pin", action="store_true", help=f"renew the digests in {PINS.name}")
    images.add_argument("--registry", default="", help="push there, such as ghcr.io/me")
    images.add_argument("--platforms", default="linux/amd64,linux/arm64", help="to push for")
    images.add_argument("--tag", default="", help="default: the version")
    images.add_argument("--digests", type=Path, help="write the names of what was pushed here")
    test = commands.add_parser("test", prog="make compose-test", help="test docker-compose.yml")
    test.set_defaults(run=_test, done="tested")
    test.add_argument(
        "--profile",
        dest="profiles",
        action="append",
        default=[],
        choices=PROFILES,
        help="also start this profile; its base image is pulled",
    )
    test.add_argument("--keep", action="store_true", help="leave the containers running")
    return parser


if __name__ == "__main__":
    sys.exit(main())
