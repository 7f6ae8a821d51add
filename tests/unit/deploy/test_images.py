"""Guarantees of the container images, and the start of the Redis container."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from deploy.local.places import REDIS_CONF, REDIS_USERS, ROOT
from deploy.local.redis.server import access_list
from deploy.secret_names import PASSWORDS
from services.approval import settings as approval
from services.gateway import settings as gateway

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

SERVICES_IMAGE = (ROOT / "deploy/Dockerfile").read_text()
REDIS_IMAGE = (ROOT / "deploy/redis/Dockerfile").read_text()
IMAGES = {path.parent.name: path.read_text() for path in (ROOT / "deploy").glob("*/Dockerfile")}
IMAGES["services"] = SERVICES_IMAGE
START = ROOT / "deploy/redis/start.sh"
ENTRY_POINT = '#!/bin/sh\nprintf "%s\\n" "$@"\nenv\n'


def words(image: str, instruction: str) -> list[str]:
    """Return the arguments of each line with this instruction."""
    return re.findall(rf"(?m)^{instruction} (.+)$", image)


def default_port(service: ModuleType) -> float:
    """Return the default of PORT."""
    return float(next(one.default for one in service.ALL if one.name == "PORT"))


class TestServices:
    def test_the_base_can_be_chosen(self) -> None:
        name = words(SERVICES_IMAGE, "ARG")[0].split("=")[0]
        assert words(SERVICES_IMAGE, "FROM") == [f"${{{name}}} AS build", f"${{{name}}}"]

    def test_the_service_runs_unprivileged_and_as_process_1(self) -> None:
        (user,) = words(SERVICES_IMAGE, "USER")
        assert user.split(":")[0].isdecimal()
        assert int(user.split(":")[0]) > 0
        assert words(SERVICES_IMAGE, "CMD") == ['["python", "-m", "services.gateway"]']
        assert not words(SERVICES_IMAGE, "ENTRYPOINT")

    def test_it_listens_on_both_families(self) -> None:
        assert "HOST=0.0.0.0,::" in SERVICES_IMAGE

    def test_no_secret_is_in_it(self) -> None:
        assert not re.search("(SECRET|TOKEN|PASSWORD|REDIS_URL)=", SERVICES_IMAGE + REDIS_IMAGE)

    def test_it_says_which_ports_and_signals_it_takes_and_how_to_check_it(self) -> None:
        ports = {str(int(default_port(service))) for service in (gateway, approval)}
        assert set(words(SERVICES_IMAGE, "EXPOSE")[0].split()) == ports
        assert words(SERVICES_IMAGE, "STOPSIGNAL") == ["SIGTERM"]
        assert '["python", "-IS", "/app/shared/observability/probe.py"]' in SERVICES_IMAGE

    def test_neither_pip_nor_setuptools_is_in_it(self) -> None:
        assert "RUN python -m venv --without-pip .venv\n" in SERVICES_IMAGE

    def test_the_check_needs_no_installed_package(self) -> None:
        """`python -IS` has no site-packages."""
        probe = (ROOT / "shared/observability/probe.py").read_text()
        imported = re.findall(r"(?m)^(?:import|from) (\w+)", probe)
        assert set(imported) == {"__future__", "os", "socket", "sys"}

    @pytest.mark.parametrize("name", ["services", "redis", "proxy"])
    def test_labels(self, name: str) -> None:
        labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", IMAGES[name]))
        assert labels >= {"title", "description", "version", "revision", "source"}

    @pytest.mark.parametrize("name", IMAGES)
    def test_a_checkout_that_only_its_owner_reads_makes_no_difference(self, name: str) -> None:
        copied = [one for one in words(IMAGES[name], "COPY") if not one.startswith("--from")]
        assert "RUN chmod" in IMAGES[name] or all(one.startswith("--chmod") for one in copied)

    @pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
    def test_what_it_copies_is_there_and_not_left_out(self, image: str) -> None:
        kept = (ROOT / ".dockerignore").read_text().splitlines()
        sources = [
            source
            for copied in words(image, "COPY")
            if not copied.startswith("--from")
            for source in copied.split()[:-1]
            if not source.startswith("--")
        ]
        assert sources
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in kept


class TestRedis:
    def start(self, directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Start the image's script with an entry point that prints its call."""
        image, data = directory / "image", directory / "data"
        image.mkdir()
        data.mkdir()
        for file in (REDIS_CONF, REDIS_USERS, START):
            shutil.copy(file, image)
        entry_point = image / "docker-entrypoint.sh"
        entry_point.write_text(ENTRY_POINT)
        entry_point.chmod(0o755)
        return subprocess.run(
            ["/bin/sh", image / "start.sh", "--port", "1"],
            cwd=data,
            env={"PATH": f"{image}:{os.defpath}", **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_it_starts_with_our_configuration_and_users(self, tmp_path: Path) -> None:
        passwords = {name: f"password of {name}" for name in PASSWORDS}
        done = self.start(tmp_path, **passwords)
        assert (done.returncode, done.stderr) == (0, "")
        users = tmp_path / "data/users.acl"
        image = tmp_path / "image"
        asked = ["redis-server", f"{image}/redis.conf", "--aclfile", str(users), "--port", "1"]
        assert done.stdout.splitlines()[:6] == asked
        assert "password of" not in done.stdout
        written = [line.split() for line in users.read_text().splitlines()]
        assert written == [
            line.split() for line in access_list(REDIS_USERS.read_text(), passwords).splitlines()
        ]
        assert users.stat().st_mode & 0o777 == 0o600

    def test_each_value_of_a_comma_list_is_accepted(self, tmp_path: Path) -> None:
        passwords = {name: f"new {name},old,," for name in PASSWORDS}
        assert self.start(tmp_path, **passwords).returncode == 0
        gateway = (tmp_path / "data/users.acl").read_text().splitlines()[1]
        hashes = {word for word in gateway.split() if word.startswith("#")}
        values = (f"new {PASSWORDS[0]}", "old")
        wanted = {f"#{hashlib.sha256(value.encode()).hexdigest()}" for value in values}
        assert hashes == wanted

    def test_passwords_may_be_in_files(self, tmp_path: Path) -> None:
        files = {}
        for name in PASSWORDS:
            (tmp_path / name).write_text(f"password of {name}\n")
            files[f"{name}_FILE"] = str(tmp_path / name)
        done = self.start(tmp_path, **files)
        assert (done.returncode, done.stderr) == (0, "")
        assert "password of" not in done.stdout
        written = [line.split() for line in (tmp_path / "data/users.acl").read_text().splitlines()]
        passwords = {name: f"password of {name}" for name in PASSWORDS}
        expected = access_list(REDIS_USERS.read_text(), passwords)
        assert written == [line.split() for line in expected.splitlines()]

    def test_a_password_given_twice_or_in_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        both = dict.fromkeys(PASSWORDS, "x") | {f"{PASSWORDS[0]}_FILE": "/nowhere"}
        done = self.start(tmp_path, **both)
        assert done.returncode == 78
        assert f"{PASSWORDS[0]} and {PASSWORDS[0]}_FILE are both set" in done.stderr
        again = tmp_path / "again"
        again.mkdir()
        done = self.start(again, **{f"{PASSWORDS[0]}_FILE": "/nowhere", PASSWORDS[1]: "x"})
        assert done.returncode == 78
        assert f"{PASSWORDS[0]}_FILE=/nowhere" in done.stderr

    @pytest.mark.parametrize("missing", PASSWORDS)
    @pytest.mark.parametrize("value", ["", ","])
    def test_without_a_password_it_does_not_start(
        self, tmp_path: Path, missing: str, value: str
    ) -> None:
        passwords = dict.fromkeys(PASSWORDS, "x") | {missing: value}
        done = self.start(tmp_path, **passwords)
        assert done.returncode == 78
        assert done.stderr.startswith(f"{missing} is not set")
