"""`make images` and `make compose-test`, with a `docker` that records its calls."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from deploy.local.places import ROOT
from tools.images import build as building
from tools.images.__main__ import main
from tools.images.build import IMAGES, Release, read_pins, renew_pins, unpinned
from tools.images.engine import SKIPPED, Docker, DockerFailed
from tools.images.story import Story

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "sha256:" + "a" * 64
FAKE = """#!/bin/sh
printf '%s\\n' "$*" >>"{log}"
for word in "$@"; do case $word in --metadata-file=*)
  printf '{{"containerimage.digest": "{digest}"}}' >"${{word#*=}}" ;; esac; done
case "$*" in
  *imagetools*) printf '{{"digest": "{digest}"}}' ;;
  {failing}) echo "no such thing"; exit 1 ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `docker` on PATH that succeeds; return the file with its calls."""
    return fake_docker(tmp_path, monkeypatch, failing="nothing-fails")


def fake_docker(directory: Path, monkeypatch: pytest.MonkeyPatch, *, failing: str) -> Path:
    """Put a `docker` on PATH whose calls fail if they match the shell pattern."""
    log = directory / "calls"
    docker = directory / "docker"
    docker.write_text(FAKE.format(log=log, digest=DIGEST, failing=failing))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return log


class TestWithoutAnEngine:
    @pytest.mark.parametrize("command", ["build", "test"])
    def test_it_says_so_and_its_exit_status_is_that_of_a_skip(
        self,
        command: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fake_docker(tmp_path, monkeypatch, failing="version*")
        assert main([command]) == SKIPPED
        assert SKIPPED not in {0, 1, 2}
        printed = capsys.readouterr().err
        assert printed.startswith("SKIPPED, nothing was ")
        assert "no such thing" in printed

    def test_without_the_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert main(["test"]) == SKIPPED
        assert "no docker command" in capsys.readouterr().err


class TestBuild:
    def test_every_image_is_built_with_its_arguments(
        self, calls: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HAPROXY_IMAGE", "registry.invalid/haproxy:1")
        assert main(["build"]) == 0
        built = [line for line in calls.read_text().splitlines() if line.startswith("buildx build")]
        assert len(built) == len(IMAGES)
        for line, (image, file) in zip(built, IMAGES.items(), strict=True):
            assert f"--file {file} --tag {image} " in line
            assert "--build-arg=VERSION=" in line
            assert "--push" not in line
        assert "--build-arg=HAPROXY_IMAGE=registry.invalid/haproxy:1 " in built[2]
        assert "--build-arg=REDIS_IMAGE=" not in built[0]

    def test_a_release_is_pushed_for_all_platforms_with_sbom_and_provenance(
        self, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pins = {name: f"{image.partition('@')[0]}@{DIGEST}" for name, image in read_pins().items()}
        monkeypatch.setattr(building, "read_pins", lambda: pins)
        monkeypatch.setattr("tools.images.__main__.read_pins", lambda: pins)
        digests = tmp_path / "digests"
        arguments = ["--registry", "ghcr.io/me", "--tag", "1.2.3", "--digests", str(digests)]
        assert main(["build", *arguments]) == 0
        assert digests.read_text().splitlines() == [
            f"ghcr.io/me/{image}:1.2.3@{DIGEST}" for image in IMAGES
        ]
        for line in calls.read_text().splitlines()[-len(IMAGES) :]:
            for option in ("--platform=linux/amd64,linux/arm64", "--push", "--sbom=true"):
                assert option in line
            assert "--provenance=mode=max" in line
            assert f"@{DIGEST}" in line

    def test_a_release_needs_pinned_base_images(
        self, calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("tools.images.__main__.read_pins", lambda: {"A_IMAGE": "a:1"})
        assert main(["build", "--registry", "ghcr.io/me"]) == 1
        assert "no digest for a:1" in capsys.readouterr().err
        assert "buildx build" not in calls.read_text()

    def test_a_failed_build_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake_docker(tmp_path, monkeypatch, failing='"buildx build"*')
        assert main(["build"]) == 1
        assert "no such thing" in capsys.readouterr().err


class TestPins:
    def test_there_is_one_for_each_base_image_of_the_dockerfiles(self) -> None:
        declared: dict[str, str] = {}
        for dockerfile in [ROOT / "deploy/Dockerfile", *(ROOT / "deploy").glob("*/Dockerfile")]:
            declared |= re.findall(r"(?m)^ARG (\w+_IMAGE)=(.+)$", dockerfile.read_text())
        assert {name: image.partition("@")[0] for name, image in read_pins().items()} == declared

    def test_digests_are_asked_for_and_written(self, calls: Path, tmp_path: Path) -> None:
        file = tmp_path / "pins"
        file.write_text(
            f"# comment\nA_IMAGE=x.io/a:1\nB_IMAGE=b:2@{DIGEST}\nC_IMAGE=c:3@{DIGEST[:-1]}b\n"
        )
        assert unpinned(read_pins(file)) == ["x.io/a:1"]
        assert renew_pins(Docker(), file) == [f"A_IMAGE=x.io/a:1@{DIGEST}", f"C_IMAGE=c:3@{DIGEST}"]
        assert file.read_text() == (
            f"# comment\nA_IMAGE=x.io/a:1@{DIGEST}\nB_IMAGE=b:2@{DIGEST}\nC_IMAGE=c:3@{DIGEST}\n"
        )
        assert unpinned(read_pins(file)) == []
        assert "imagetools inspect b:2 " in calls.read_text()

    @pytest.mark.parametrize("line", ["A_IMAGE", "A_IMAGE=a", "A_IMAGE=a:1@sha256:12", "X=a:1"])
    def test_a_wrong_line_is_an_error(self, tmp_path: Path, line: str) -> None:
        file = tmp_path / "pins"
        file.write_text(f"{line}\n")
        with pytest.raises(ValueError, match="is not NAME_IMAGE"):
            read_pins(file)

    def test_names_in_a_registry(self) -> None:
        assert Release().name("latchkey") == "latchkey"
        assert Release("ghcr.io/me", "linux/amd64", "1").name("latchkey") == "ghcr.io/me/latchkey:1"


class TestDocker:
    def test_a_failed_command_is_quoted_with_its_output(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_docker(tmp_path, monkeypatch, failing="ps*")
        with pytest.raises(DockerFailed, match=r"docker ps -a ended with 1:\nno such thing"):
            Docker().do("ps", "-a")

    def test_a_command_has_a_time_limit(self, calls: Path) -> None:
        (calls.parent / "docker").write_text("#!/bin/sh\nexec sleep 60\n")
        with pytest.raises(DockerFailed, match=r"longer than 0.2 s"):
            Docker().run("pull", seconds=0.2)


def test_a_story_that_goes_wrong_fails_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = fake_docker(tmp_path, monkeypatch, failing='"compose build"*')
    assert Story(Docker()).tell() == 1
    assert "FAIL  the story goes on" in capsys.readouterr().out
    assert log.read_text().splitlines()[-1].startswith("compose --profile=* down --volumes")


def test_checks_of_the_story_can_fail(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story(Docker())
    story.check("one", "^a$", "a")
    story.check("two", "^a$", "b")
    assert (story.passed, story.failed) == (1, 1)
    assert "FAIL  two; expected: ^a$" in capsys.readouterr().out
