"""The release workflow runs the targets of the Makefile, with no more rights than it needs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deploy.local.places import ROOT
from tools.images.__main__ import _parser
from tools.images.build import IMAGES
from tools.images.profiles import PROFILES
from tools.support.yaml_file import load_yaml

WORKFLOW: dict[Any, Any] = load_yaml(ROOT / ".github/workflows/release.yml")
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
MAKEFILE = (ROOT / "Makefile").read_text()


def commands(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def steps(job: str) -> list[str]:
    """Return the action or the command of each step."""
    return [step.get("uses", step.get("run", "")) for step in JOBS[job]["steps"]]


def test_it_releases_tags_only() -> None:
    assert WORKFLOW[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as true


@pytest.mark.parametrize(
    ("job", "target"),
    [
        ("check", "check test"),
        ("images", "images"),
        ("images", "compose-test"),
        ("publish", "images"),
    ],
)
def test_it_runs_the_commands_that_people_run(job: str, target: str) -> None:
    assert any(re.match(rf"make {target}(\s|$)", command) for command in commands(job))
    for word in target.split():
        assert re.search(rf"(?m)^{word}: ", MAKEFILE)


def test_the_arguments_of_make_are_accepted() -> None:
    for job in JOBS:
        for command in commands(job):
            for target, arguments in re.findall(
                r'make (images|compose-test) ARGS="([^"]*)"', command
            ):
                name = {"images": "build", "compose-test": "test"}[target]
                _parser().parse_args([name, *arguments.split()])


def test_every_profile_is_tested() -> None:
    (command,) = (one for one in commands("images") if "compose-test" in one)
    assert set(re.findall(r"--profile (\w+)", command)) == set(PROFILES)


def test_every_image_is_scanned_before_anything_is_published() -> None:
    scanned = [
        step["with"]
        for step in JOBS["images"]["steps"]
        if step.get("uses", "").startswith("anchore/scan-action@")
    ]
    assert {step["image"] for step in scanned} == set(IMAGES)
    assert all(step["severity-cutoff"] == "high" for step in scanned)
    assert JOBS["publish"]["needs"] == ["check", "images"]


def test_what_is_published_is_for_both_platforms_signed_and_verified() -> None:
    (build,) = (one for one in commands("publish") if one.startswith("make images"))
    assert "--platforms linux/amd64,linux/arm64" in build
    digests = re.findall(r"--digests (\S+?)\"", build)
    order = [steps("publish").index(build)]
    for verb in ("sign", "verify"):
        (step,) = (one for one in commands("publish") if f"cosign {verb} " in one)
        assert f"<{digests[0]}" in step
        order.append(steps("publish").index(step))
    assert order == sorted(order)


def test_only_publishing_has_rights_to_write() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    rights = {name: job.get("permissions") for name, job in JOBS.items()}
    assert rights == {
        "check": None,
        "images": None,
        "publish": {"contents": "read", "packages": "write", "id-token": "write"},
    }


def test_secrets_do_not_appear_in_commands() -> None:
    for job in JOBS:
        assert "secrets." not in " ".join(commands(job))
        assert "${{" not in " ".join(commands(job)), "an expression in a command is an injection"
        assert JOBS[job]["timeout-minutes"]
